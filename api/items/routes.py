"""The routes of items. Thin: read the request, call a command or a query, answer."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.body import JsonRoute
from api.consistency.answer import accepted
from api.dependencies import Expects, ReadModels, RepeatableWork, Waits, Work
from api.etag import ETAG_HEADERS, HEADER_NAME, etag_of
from api.fields import PathId
from api.items import commands, queries
from api.items.queries import ItemFilter, Sort
from api.items.schemas import ITEMS, ItemCreate, ItemDeleted, ItemOut, ItemUpdate, tag_as_stored
from api.paging import DEFAULT_LIMIT, PAGE_HEADERS, CursorParameter, Limit, page_answer
from api.preconditions import NOT_MODIFIED, read_answer
from api.problems import problems

router = APIRouter(prefix="/items", tags=["items"], route_class=JsonRoute)


@router.get(
    "",
    summary="List items",
    response_model=list[ItemOut],
    responses={200: {"headers": PAGE_HEADERS}, **problems(400, 422, 503)},
)
async def list_items(  # noqa: PLR0913 - each parameter is one of the request
    request: Request,
    read_models: ReadModels,
    tag: Annotated[
        list[str] | None, Query(max_length=20, description="Has this tag; repeated: has all of them")
    ] = None,
    owner_id: Annotated[PathId | None, Query(description="Belongs to this user")] = None,
    q: Annotated[
        str | None,
        Query(min_length=1, max_length=200, pattern=r"\w", description="Has all these words in name or description"),
    ] = None,
    sort: Annotated[Sort | None, Query(description="`-` before the field: descending. Default: id")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Answer a page of items."""
    wanted = ItemFilter(tags=[tag_as_stored(wanted_tag) for wanted_tag in tag or ()], owner_id=owner_id, words=q)
    items, following = await queries.items_page(read_models, wanted, sort=sort, limit=limit, cursor=cursor)
    return page_answer(request, ITEMS, items, following)


@router.post(
    "",
    summary="Create an item",
    status_code=201,
    response_model=ItemOut,
    responses={
        201: {"headers": ETAG_HEADERS},
        **accepted(ItemOut, ETAG_HEADERS),
        **problems(400, 404, 408, 409, 413, 415, 422, 503),
    },
)
async def create_item(work: RepeatableWork, consistency: Waits, body: ItemCreate) -> Response:
    """Create an item and, by default, wait until reads show it."""
    committed = await commands.create_item(work, body)
    item = ItemOut.of_event(committed.event)
    headers = {"Location": f"/items/{item.id}", HEADER_NAME: etag_of(item.versions)}
    return await consistency.answer(committed, item, 201, headers)


@router.get(
    "/{item_id}",
    summary="Get an item",
    response_model=ItemOut,
    responses={200: {"headers": ETAG_HEADERS}, **NOT_MODIFIED, **problems(400, 404, 412, 422, 503)},
)
async def get_item(read_models: ReadModels, expected: Expects, item_id: PathId) -> Response:
    """Answer the item, or that the client has it as it is."""
    item = await queries.item_by_id(read_models, item_id)
    return read_answer(item, item.versions, expected)


@router.put(
    "/{item_id}",
    summary="Change an item",
    response_model=ItemOut,
    responses={
        200: {"headers": ETAG_HEADERS},
        **accepted(ItemOut, ETAG_HEADERS),
        **problems(400, 404, 408, 412, 413, 415, 422, 503),
    },
)
async def update_item(work: Work, consistency: Waits, expected: Expects, item_id: PathId, body: ItemUpdate) -> Response:
    """Change the given fields; absent and null ones keep their value."""
    committed = await commands.update_item(work, item_id, body, expected)
    item = ItemOut.of_event(committed.event)
    return await consistency.answer(committed, item, 200, {HEADER_NAME: etag_of(item.versions)})


@router.delete(
    "/{item_id}",
    summary="Delete an item",
    response_model=ItemDeleted,
    responses={**accepted(ItemDeleted), **problems(400, 404, 412, 422, 503)},
)
async def delete_item(work: Work, consistency: Waits, expected: Expects, item_id: PathId) -> Response:
    """Delete an item."""
    committed = await commands.delete_item(work, item_id, expected)
    return await consistency.answer(committed, ItemDeleted(detail=f"Item with id {item_id} has been deleted"), 200)
