"""The route of tags."""

from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from api.body import JsonRoute
from api.dependencies import ReadModels
from api.paging import DEFAULT_LIMIT, PAGE_HEADERS, CursorParameter, Limit, page_answer
from api.problems import problems
from api.tags import queries
from api.tags.schemas import TagOut

PAGE: Final = TypeAdapter(list[TagOut])

router = APIRouter(prefix="/tags", tags=["tags"], route_class=JsonRoute)


@router.get(
    "",
    summary="List tags",
    response_model=list[TagOut],
    responses={200: {"headers": PAGE_HEADERS}, **problems(400, 422, 503)},
)
async def list_tags(
    request: Request,
    read_models: ReadModels,
    limit: Limit = DEFAULT_LIMIT,
    cursor: CursorParameter = None,
) -> Response:
    """Answer the tags in use with the number of items that carry each, most used first, then by name."""
    tags, following = await queries.tags_page(read_models, limit=limit, cursor=cursor)
    return page_answer(request, PAGE, tags, following)
