"""What routes ask for. Everything lives in the application's state, made once at the start."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from api.consistency.answer import Consistency
from api.consistency.freshness import Freshness, LookUp
from api.consistency.prefer import parse_prefer
from api.consistency.provenance import Provenance
from api.consistency.settlements import Settlements
from api.consistency.token import HEADER_NAME, PATTERN, Token
from api.consistency.waker import Waker
from api.deadline import deadline_of
from api.errors import DomainError, ProjectionPendingError
from api.expected import Expected
from api.idempotency.header import request_key_of
from api.idempotency.request_key import RequestKey
from api.metrics import ApiMetrics
from api.point_reads import PointReads
from api.pool import Pool
from api.preconditions import expected_of
from api.reads import Reads
from api.settings import ApiSettings
from api.unit_of_work import UnitOfWork
from shared.mongo import Document


@dataclass(frozen=True, slots=True)
class Services:
    """What the process holds open for its requests."""

    settings: ApiSettings
    pool: Pool
    read_models: AsyncDatabase[Document]
    point_reads: Mapping[str, PointReads]
    provenance: Provenance
    settlements: Settlements
    waker: Waker
    freshness: Freshness
    metrics: ApiMetrics


def services_of(request: Request) -> Services:
    """Return the services of the application that runs this request. Called, not asked for: that costs ten times it."""
    services: Services = request.app.state.services
    return services


PreferHeader = Annotated[
    list[str] | None,
    Header(
        alias="Prefer",
        description="RFC 7240: `wait=N` waits at most N seconds (0 to 30) for the projection, "
        "`respond-async` answers right after the commit.",
        examples=["wait=10", "respond-async"],
    ),
]

TokenHeader = Annotated[
    str | None,
    Header(
        alias=HEADER_NAME,
        description="What a write answered: the read sees at least that write, whichever process and client wrote it. "
        "It waits for it as the write would have.",
        json_schema_extra={"pattern": PATTERN},  # told, not checked here: a broken token is a 400, not a 422
    ),
]


async def reads_of(request: Request, token: TokenHeader = None, prefer: PreferHeader = None) -> AsyncIterator[Reads]:
    """Yield what this request's query reads from, once it is as new as the request's token asks for."""
    services = services_of(request)
    if token is None:
        yield Reads(services.read_models, services.point_reads)
        return
    preference = parse_prefer(", ".join(prefer or []), services.settings.default_wait_seconds)
    deadline_of(request).extend(preference.wait_seconds)
    found = await services.freshness.look_up(Token.decode(token), preference.wait_seconds)
    async with services.read_models.client.start_session(causal_consistency=True) as session:
        if found.time:
            found.time.advance(session)
        try:
            yield Reads(services.read_models, services.point_reads, session)
        except DomainError:
            await _require_proof(services, found, session)
            raise
        await _require_proof(services, found, session)


async def _require_proof(services: Services, found: LookUp, session: AsyncClientSession) -> None:
    """Raise ProjectionPendingError unless what was just read was read where the token's write was settled."""
    if not await services.provenance.holds(found.as_of, session):
        raise ProjectionPendingError


async def consistency_of(request: Request, prefer: PreferHeader = None) -> Consistency:
    """Return how this write waits."""
    services = services_of(request)
    preference = parse_prefer(", ".join(prefer or []), services.settings.default_wait_seconds)
    return Consistency(request, preference, services.provenance, services.settlements, services.waker, services.metrics)


async def unit_of_work_of(request: Request, consistency: Annotated[Consistency, Depends(consistency_of)]) -> UnitOfWork:
    """Return a unit of work that is not begun. Its message is awaited when the client waits."""
    services = services_of(request)
    return UnitOfWork(
        services.pool,
        awaited=consistency.preference.waits,
        trace_context=request.scope["trace_context"],
        waker=services.waker,
        on_commit=deadline_of(request).lift,
    )


async def repeatable_work_of(
    work: Annotated[UnitOfWork, Depends(unit_of_work_of)],
    request_key: Annotated[RequestKey | None, Depends(request_key_of)],
) -> UnitOfWork:
    """Return the unit of work of a request that may come twice."""
    return work.done_once(request_key)


# Ends with the route, before its answer is sent.
ReadModels = Annotated[Reads, Depends(reads_of, scope="function")]
Work = Annotated[UnitOfWork, Depends(unit_of_work_of)]
RepeatableWork = Annotated[UnitOfWork, Depends(repeatable_work_of)]
Waits = Annotated[Consistency, Depends(consistency_of)]
Expects = Annotated[Expected, Depends(expected_of)]
