"""The routes of users. Thin: read the request, call a command or a query, answer."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.body import JsonRoute
from api.consistency.answer import accepted
from api.dependencies import Expects, ReadModels, RepeatableWork, Waits, Work
from api.etag import ETAG_HEADERS, HEADER_NAME, etag_of
from api.fields import PathId
from api.paging import DEFAULT_LIMIT, PAGE_HEADERS, CursorParameter, Limit, page_answer
from api.preconditions import NOT_MODIFIED, read_answer
from api.problems import problems
from api.users import commands, queries
from api.users.schemas import USERS, UserCreate, UserDeleted, UserOut, UserUpdate, as_stored

router = APIRouter(prefix="/users", tags=["users"], route_class=JsonRoute)


@router.get(
    "",
    summary="List users",
    response_model=list[UserOut],
    responses={200: {"headers": PAGE_HEADERS}, **problems(400, 422, 503)},
)
async def list_users(
    request: Request,
    read_models: ReadModels,
    email: Annotated[str | None, Query(max_length=254, description="Only the user with this address")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Answer a page of users in id order."""
    wanted = as_stored(email) if email is not None else None
    users, following = await queries.users_page(read_models, email=wanted, limit=limit, cursor=cursor)
    return page_answer(request, USERS, users, following)


@router.post(
    "",
    summary="Create a user",
    status_code=201,
    response_model=UserOut,
    responses={
        201: {"headers": ETAG_HEADERS},
        **accepted(UserOut, ETAG_HEADERS),
        **problems(400, 408, 409, 413, 415, 422, 503),
    },
)
async def create_user(work: RepeatableWork, consistency: Waits, body: UserCreate) -> Response:
    """Create a user and, by default, wait until reads show it."""
    committed = await commands.create_user(work, body)
    user = UserOut.of_event(committed.event)
    headers = {"Location": f"/users/{user.id}", HEADER_NAME: etag_of(user.versions)}
    return await consistency.answer(committed, user, 201, headers)


@router.get(
    "/{user_id}",
    summary="Get a user",
    response_model=UserOut,
    responses={200: {"headers": ETAG_HEADERS}, **NOT_MODIFIED, **problems(400, 404, 412, 422, 503)},
)
async def get_user(read_models: ReadModels, expected: Expects, user_id: PathId) -> Response:
    """Answer the user, or that the client has it as it is."""
    user = await queries.user_by_id(read_models, user_id)
    return read_answer(user, user.versions, expected)


@router.put(
    "/{user_id}",
    summary="Change a user",
    response_model=UserOut,
    responses={
        200: {"headers": ETAG_HEADERS},
        **accepted(UserOut, ETAG_HEADERS),
        **problems(400, 404, 408, 409, 412, 413, 415, 422, 503),
    },
)
async def update_user(work: Work, consistency: Waits, expected: Expects, user_id: PathId, body: UserUpdate) -> Response:
    """Change the given fields; absent and null ones keep their value. The user's items follow."""
    committed = await commands.update_user(work, user_id, body, expected)
    user = UserOut.of_event(committed.event)
    return await consistency.answer(committed, user, 200, {HEADER_NAME: etag_of(user.versions)})


@router.delete(
    "/{user_id}",
    summary="Delete a user",
    response_model=UserDeleted,
    responses={**accepted(UserDeleted), **problems(400, 404, 409, 412, 422, 503)},
)
async def delete_user(work: Work, consistency: Waits, expected: Expects, user_id: PathId) -> Response:
    """Delete a user who owns no items."""
    committed = await commands.delete_user(work, user_id, expected)
    return await consistency.answer(committed, UserDeleted(detail=f"User with id {user_id} has been deleted"), 200)
