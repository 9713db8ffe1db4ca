"""The operators' web page: its files, what it shows, live, and who is looking."""

from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse

from projector.console.access import ConsoleAccess
from projector.console.feed import Feed, as_json
from projector.lookout import Lookout
from projector.settings import ProjectorSettings
from shared.access import ANYBODY
from shared.version import installed_version

PAGE: Final = Path(__file__).parent / "page"


def page_routes(
    settings: ProjectorSettings, name: str, lookout: Lookout, feed: Feed, access: ConsoleAccess
) -> APIRouter:
    """Return the page's routes. Plain functions are run on threads of their own."""
    router = APIRouter()

    @router.get("/")
    def page() -> FileResponse:
        """Answer the page."""
        return FileResponse(PAGE / "index.html")

    @router.get("/events")
    async def events() -> StreamingResponse:
        """Answer what is to be seen, again every second, as server-sent events."""
        if feed.is_full:
            raise HTTPException(503, "too many browsers watch this projector", {"Retry-After": "10"})
        return StreamingResponse(feed.stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @router.get("/api/overview")
    def overview() -> dict[str, Any]:
        """Answer what is to be seen, once."""
        return as_json(lookout.look())

    @router.get("/api/access")
    def who(request: Request) -> dict[str, Any]:
        """Answer who looks and what for, and what the page has to know of this projector."""
        token = access.whoever(request)
        return {
            "projector": name,
            "version": installed_version(),
            "lag_degraded_seconds": settings.lag_degraded_seconds,
            "has_tokens": access.has_tokens,
            "name": None if token is ANYBODY else token.name,
            "may_read": not access.has_tokens or token.may("read"),
            "may_operate": token.may("operate"),
        }

    return router
