"""The answer of a write: it waits as the client prefers and says what can be read."""

import time
from collections.abc import Mapping
from typing import Any, Final, assert_never

from fastapi import Request, Response
from pydantic import BaseModel

from api.consistency.prefer import Preference
from api.consistency.provenance import Provenance
from api.consistency.settlements import Settlements, Visibility
from api.consistency.token import HEADER_NAME, PATTERN, Token
from api.consistency.waker import Waker
from api.metrics import ApiMetrics
from api.problems import RETRY_AFTER_HEADERS
from api.unit_of_work import Committed
from shared.outbox.wake import Wake

RETRY_AFTER_SECONDS = "1"

# What every write that succeeds answers, for the OpenAPI document.
WRITE_HEADERS: Final[dict[str, Any]] = {
    HEADER_NAME: {
        "description": "Names this write: a GET that sends it back sees at least this write",
        "required": True,
        "schema": {"type": "string", "pattern": PATTERN},
    },
    "Preference-Applied": {
        "description": "Which preferences of Prefer were honoured (RFC 7240)",
        "schema": {"type": "string", "examples": ["respond-async", "wait=10"]},
    },
}


class Consistency:
    """Bound to one request: its preference, and where settlements are announced."""

    def __init__(
        self,
        request: Request,
        preference: Preference,
        provenance: Provenance,
        settlements: Settlements,
        waker: Waker,
        metrics: ApiMetrics,
    ) -> None:
        self._request = request
        self._provenance = provenance
        self._metrics = metrics
        self.preference = preference
        self._settlements = settlements
        self._waker = waker

    async def answer(
        self, committed: Committed, body: BaseModel, status: int, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Wait as preferred, and answer `status`, or 202 when the write cannot be read yet."""
        visible = await self._was_visible(committed)
        if committed.repeated and not visible:
            # Whoever was woken for it then may have been busy with other things, or gone.
            self._waker.wake(Wake.of(committed.message_id, awaited=self.preference.waits))
        fields = self._request.scope["log_fields"]
        fields.update(message_id=committed.message_id, commit_seconds=round(committed.seconds, 6))
        if committed.repeated:
            fields.update(repeated=True)
        else:
            self._metrics.committed(committed.seconds)
        begun = time.perf_counter()
        token = Token(committed.history, committed.message_id)
        visibility = Visibility.VISIBLE if visible else await self._wait(token, committed.begun)
        fields.update(visibility=visibility.value, wait_seconds=round(time.perf_counter() - begun, 6))
        answer = Response(body.model_dump_json(), status, dict(headers or {}), media_type="application/json")
        answer.headers[HEADER_NAME] = token.encode()
        if self.preference.applied:
            answer.headers["Preference-Applied"] = self.preference.applied
        match visibility:
            case Visibility.VISIBLE:
                pass
            case Visibility.PENDING:
                answer.status_code = 202
                answer.headers["Projection-Status"] = "pending"
                answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
            case Visibility.FAILED:
                answer.status_code = 202
                answer.headers["Projection-Status"] = "failed"
            case _:
                assert_never(visibility)
        return answer

    async def _was_visible(self, committed: Committed) -> bool:
        """Return whether an earlier request's write could be read already."""
        return committed.settled is not None and await self._provenance.is_known_to_hold(committed.settled)

    async def _wait(self, token: Token, begun: float) -> Visibility:
        if not self.preference.waits:
            return await self._settlements.wait(token, 0, since=begun)
        with self._metrics.waiting("write"):
            visibility = await self._settlements.wait(token, self.preference.wait_seconds, since=begun)
        if visibility is Visibility.PENDING and not self._settlements.is_draining:
            self._metrics.timed_out("write")
        return visibility


def accepted(model: type[BaseModel], headers: Mapping[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the 202 that every write may answer, with the `headers` of its success."""
    return {
        202: {
            "model": model,
            "description": "Done, but it cannot be read yet (or, with Projection-Status: failed, not until an "
            "operator acts). Not an error: do not repeat it.",
            "headers": {
                "Projection-Status": {"required": True, "schema": {"type": "string", "enum": ["pending", "failed"]}},
                **RETRY_AFTER_HEADERS,
                **(headers or {}),
            },
        }
    }
