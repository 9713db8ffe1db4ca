"""Queries on users. They read MongoDB only."""

from collections.abc import Sequence

from api.errors import NotFoundError
from api.paging import decode_cursor, encode_cursor
from api.reads import Reads, again_if_swapped
from api.users.schemas import USERS, UserOut
from shared.mongo import Document
from shared.read_models import ALIVE, USERS_READ

ORDER = "id"


@again_if_swapped
async def user_by_id(reads: Reads, user_id: int) -> UserOut:
    """Return the user. Raises NotFoundError."""
    document = await reads.document(USERS_READ, user_id)
    if document is None:
        raise NotFoundError("User", user_id)
    return UserOut.model_validate(document)


@again_if_swapped
async def users_page(
    reads: Reads, *, email: str | None, limit: int, cursor: str | None
) -> tuple[Sequence[UserOut], str | None]:
    """Return a page in id order and the cursor of the next. Raises CursorError."""
    wanted: Document = {**ALIVE}
    if email is not None:
        wanted["email"] = email
    if cursor is not None:
        (last_id,) = decode_cursor(cursor, ORDER, [int])
        wanted["_id"] = {"$gt": last_id}
    found = reads[USERS_READ].find(wanted, session=reads.session).sort("_id", 1).limit(limit + 1).batch_size(limit + 1)
    documents = await found.to_list()
    users = USERS.validate_python(documents[:limit])
    return users, encode_cursor(ORDER, [users[-1].id]) if len(documents) > limit else None
