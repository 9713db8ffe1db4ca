"""Late commits and gaps: identities are given out before commits, so a commit may carry a lower one than any claimed.

The transactions are real ones: the API's own, held open right before their commit, and psycopg's. Nothing is skipped,
nothing is stuck, and who waits for a late commit is answered by its wake: polls and sweeps are made impossible.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial

import httpx
import psycopg
import pytest
from psycopg.pq import TransactionStatus

from api.consistency.waker import Waker
from api.settings import ApiSettings
from projector import process
from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.process import Projector
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.mongo import create_client, read_model_database
from shared.outbox.wake import FROM_THE_START, Wake
from shared.postgres import WAKE_CHANNEL, connect_async
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox, drain, projecting
from tests.fixtures.waiting import wait_until


class Clock:
    """A clock that a test sets: while it stands still no sweep is due."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class WatchedPosition(ClaimPosition):
    """A position that remembers after which ids it let claims start."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.starts: list[int] = []

    def start(self) -> int:
        after = super().start()
        self.starts.append(after)
        return after


class Claims:
    """After which ids the lanes of a projector have claimed, for each of its positions."""

    def __init__(self) -> None:
        self.positions: list[WatchedPosition] = []

    def watched(self, clock: Clock) -> WatchedPosition:
        """Return one more position."""
        self.positions.append(WatchedPosition(clock))
        return self.positions[-1]

    def counts(self) -> list[int]:
        """Return how many there were."""
        return [len(position.starts) for position in self.positions]

    def since(self, counts: Sequence[int]) -> list[int]:
        """Return after which ids was claimed since there were so many."""
        each = zip(self.positions, counts, strict=True)
        return [after for position, count in each for after in position.starts[count:]]

    def are_all_behind_the_start(self) -> bool:
        """Return whether something was claimed from every position, so that only a sweep starts from the beginning."""
        return all(position.starts[-1:] > [FROM_THE_START] for position in self.positions)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def claims(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Claims:
    """What projectors of this test claim. They sweep when the clock is set forward, and at their start."""
    claims = Claims()
    monkeypatch.setattr(process, "ClaimPosition", lambda: claims.watched(clock))
    return claims


@pytest.fixture
def start_projector(settings: ProjectorSettings, claims: Claims) -> Callable[..., AbstractContextManager[Projector]]:
    """Runs a projector. Unless it polls, nothing but a wake makes it look."""
    return lambda poll=60.0: projecting(settings.model_copy(update={"poll_interval_seconds": poll}))


@pytest.fixture
def stepped(settings: ProjectorSettings, clock: Clock) -> Iterator[Relay]:
    """A relay to step by hand, whose sweeps come when the clock is set forward."""
    with create_client(settings, "relay") as client:
        database = read_model_database(client, settings)
        delivery = Delivery.of(settings, database)
        relay = Relay(
            settings, lambda: open_relay_connection(settings, "relay", database), delivery, ClaimPosition(clock)
        )
        yield relay
        relay.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads of clients."""
    with ThreadPoolExecutor(10) as pool:
        yield pool


@contextmanager
def commits_held_back(database_url: str) -> Iterator[None]:
    """Let every command with an Idempotency-Key wait after its message was appended, right before it commits."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE idempotency_keys IN SHARE MODE")
        yield


def held_back(postgres: psycopg.Connection) -> list[int]:
    """Return the sessions of the commands that wait right before their commit."""
    waiting = postgres.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND application_name LIKE 'kata-api%' AND ltrim(query, E' \\n') LIKE 'INSERT INTO idempotency_keys%'"
    )
    return [pid for (pid,) in waiting]


def last_identity(postgres: psycopg.Connection) -> int:
    """Return the message id that was given out last, committed or not."""
    row = postgres.execute("SELECT last_value FROM outbox_id_seq").fetchone()
    assert row
    return int(row[0])


def post_user(api: httpx.Client, name: str, **headers: str) -> httpx.Response:
    """Create a user and wait for as long as a client can."""
    body = {"name": name, "email": f"{name}@example.org"}
    return api.post("/users", json=body, headers={"Prefer": "wait=30"} | headers)


def wake_every_lane(api: httpx.Client, name: str) -> None:
    """Create a user for whom nobody waits: one that is waited for wakes the lane that serves clients, and no other."""
    assert post_user(api, name, Prefer="respond-async").status_code == 202


def post_late(pool: ThreadPoolExecutor, api: httpx.Client, name: str) -> "Future[httpx.Response]":
    """Send the same, to be held back."""
    return pool.submit(post_user, api, name, **{"Idempotency-Key": name})


def leave_the_start(claims: Claims, api: httpx.Client, outbox: Outbox) -> None:
    """Let every lane have claimed something: from now on no claim starts from the beginning, but a sweep."""
    for n in range(100):
        outbox.user(10_000 + n)
        assert post_user(api, f"early{n}").status_code == 201
        wake_every_lane(api, f"other{n}")
        if claims.are_all_behind_the_start():
            break
    wait_until(lambda: outbox.ids() == [], "nothing is on its way")


def test_an_awaited_late_commit_is_answered_by_its_wake_and_not_by_a_sweep(
    start_projector: Callable[..., AbstractContextManager[Projector]],
    start_api: Callable[[], ApiProcess],
    postgres: psycopg.Connection,
    outbox: Outbox,
    claims: Claims,
    pool: ThreadPoolExecutor,
    database_url: str,
) -> None:
    api = start_api().client
    with start_projector():
        leave_the_start(claims, api, outbox)

        with commits_held_back(database_url):
            late = post_late(pool, api, "late")
            wait_until(lambda: held_back(postgres), "the late command is about to commit")
            lower = last_identity(postgres)
            # Transaction n is open; n + 1 commits and is projected.
            newer = post_user(api, "newer")
            assert newer.status_code == 201
            assert last_identity(postgres) > lower
            assert api.get(newer.headers["location"]).json() == newer.json()
            before = claims.counts()

        answer = late.result(40)
        assert answer.status_code == 201
        assert api.get(answer.headers["location"]).json() == answer.json()
        assert lower - 1 in claims.since(before)
        assert FROM_THE_START not in claims.since(before)


def test_of_late_commits_that_come_together_each_is_answered(
    start_projector: Callable[..., AbstractContextManager[Projector]],
    api: ApiClient,
    postgres: psycopg.Connection,
    outbox: Outbox,
    claims: Claims,
    pool: ThreadPoolExecutor,
    database_url: str,
) -> None:
    with start_projector():
        leave_the_start(claims, api, outbox)

        with commits_held_back(database_url):
            late = [post_late(pool, api, f"late{n}") for n in range(5)]
            wait_until(lambda: len(held_back(postgres)) == len(late), "all are about to commit")
            assert post_user(api, "newer").status_code == 201
            before = claims.counts()

        assert [answer.result(40).status_code for answer in late] == [201] * len(late)
        assert FROM_THE_START not in claims.since(before)


Heard = Callable[[int, float], Awaitable[list[str]]]


@pytest.fixture
def heard(postgres: psycopg.Connection) -> Heard:
    """Listens from now on; returns what wakes said, as soon as there are so many or so many seconds are over."""
    postgres.execute(f"LISTEN {WAKE_CHANNEL}".encode())

    def hear(count: int, seconds: float) -> list[str]:
        return [each.payload for each in postgres.notifies(timeout=seconds, stop_after=count)]

    return partial(asyncio.to_thread, hear)


@asynccontextmanager
async def sending(waker: Waker) -> AsyncIterator[None]:
    """Let it send wakes meanwhile."""
    running = asyncio.create_task(waker.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("awaited", "payload"), [((True, True, True), "a5"), ((True, False, True), "5"), ((False,) * 3, "u5")]
)
def test_of_wakes_that_are_sent_as_one_the_lowest_identity_goes(
    api_settings: ApiSettings, heard: Heard, awaited: tuple[bool, ...], payload: str
) -> None:
    async def wake_three_times() -> None:
        waker = Waker(api_settings, "kata-api test")
        for message_id, is_awaited in zip((8, 5, 9), awaited, strict=True):
            waker.wake(Wake.of(message_id, awaited=is_awaited))
        async with sending(waker):
            assert await heard(1, 20) == [payload]

    asyncio.run(wake_three_times())


def test_wakes_that_come_shortly_after_another_go_as_one(
    api_settings: ApiSettings, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.consistency.waker.COALESCE_SECONDS", 0.5)

    async def wake_again_and_again() -> None:
        waker = Waker(api_settings, "kata-api test")
        async with sending(waker):
            waker.wake(Wake(7, "awaited"))
            assert await heard(1, 20) == ["a7"]
            for message_id in (9, 8, 10):
                waker.wake(Wake(message_id, "awaited"))
                await asyncio.sleep(0.01)
            assert await heard(2, 1.5) == ["a8"]

    asyncio.run(wake_again_and_again())


def test_the_relay_is_woken_behind_a_commit_unless_it_was_just_now(
    api_settings: ApiSettings, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.consistency.waker.COALESCE_SECONDS", 0.5)

    async def commit_twice() -> None:
        # Nothing sends what is not sent with the commit.
        waker = Waker(api_settings, "kata-api test")
        async with await connect_async(api_settings, "kata-api test", autocommit=False) as connection:
            for message_id in (7, 8):
                await connection.execute("SELECT")
                await waker.commit(connection, Wake(message_id, "awaited"))
                assert connection.info.transaction_status is TransactionStatus.IDLE
            assert await heard(2, 0.2) == ["a7"]
            async with sending(waker):
                assert await heard(1, 20) == ["a8"]

    asyncio.run(commit_twice())


def test_a_commit_that_fails_wakes_nobody(api_settings: ApiSettings, heard: Heard) -> None:
    async def commit_in_vain() -> None:
        waker = Waker(api_settings, "kata-api test")
        async with await connect_async(api_settings, "kata-api test", autocommit=False) as connection:
            await connection.execute("CREATE TEMPORARY TABLE later (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            await connection.execute("INSERT INTO later VALUES (1), (1)")
            with pytest.raises(psycopg.errors.UniqueViolation):
                await waker.commit(connection, Wake(7, "awaited"))
        async with sending(waker):
            assert await heard(1, 0.2) == []

    asyncio.run(commit_in_vain())


def test_what_nobody_waits_for_is_gathered_until_somebody_waits(
    api_settings: ApiSettings, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.consistency.waker.GATHER_SECONDS", 3600.0)

    async def wake_for_nobody_and_for_somebody() -> None:
        waker = Waker(api_settings, "kata-api test")
        async with sending(waker):
            waker.wake(Wake(7, "unawaited"))
            assert await heard(1, 20) == ["u7"]
            waker.wake(Wake(8, "unawaited"))
            assert await heard(1, 0.2) == []
            waker.wake(Wake(9, "awaited"))
            assert await heard(1, 20) == ["8"]

    asyncio.run(wake_for_nobody_and_for_somebody())


def test_identities_that_were_rolled_back_hold_nobody_up(
    start_projector: Callable[..., AbstractContextManager[Projector]],
    api: ApiClient,
    postgres: psycopg.Connection,
    outbox: Outbox,
    pool: ThreadPoolExecutor,
    database_url: str,
) -> None:
    with start_projector():
        with commits_held_back(database_url):
            broken = post_late(pool, api, "broken")
            wait_until(lambda: held_back(postgres), "the command is about to commit")
            gap = last_identity(postgres)
            postgres.execute("SELECT pg_terminate_backend(%s)", held_back(postgres))
            assert broken.result(40).status_code == 503
            assert post_user(api, "newer").status_code == 201

        # The client repeats it, not knowing what it came to: it is done once, under identities of its own.
        assert post_late(pool, api, "broken").result(40).status_code == 201
        assert last_identity(postgres) > gap + 1
        assert outbox.ids() == []
        assert sorted(user["name"] for user in api.everything("/users")) == ["broken", "newer"]


@pytest.mark.parametrize("seed", range(5))
def test_of_transactions_that_end_in_any_order_each_is_claimed_exactly_once(
    stepped: Relay, outbox: Outbox, clock: Clock, database_url: str, seed: int
) -> None:
    drain(stepped)
    chance = random.Random(seed)  # noqa: S311 - a test that comes out the same every time
    committed = claimed = 0
    with ExitStack() as stack:
        transactions = [stack.enter_context(psycopg.connect(database_url)) for _ in range(12)]
        for number, transaction in enumerate(transactions, 1):
            Outbox(transaction).user(number)
        chance.shuffle(transactions)
        for transaction in transactions:
            if chance.random() < 0.3:
                transaction.rollback()
            else:
                transaction.commit()
                committed += 1
            claimed += stepped.run_once().claimed
    assert claimed < committed  # the hint has passed some over

    clock.now += 1
    assert claimed + drain(stepped).settled == committed
    assert outbox.ids() == []


def test_a_reader_idle_in_transaction_hides_nothing_and_holds_nobody_up(
    start_projector: Callable[..., AbstractContextManager[Projector]],
    api: ApiClient,
    postgres: psycopg.Connection,
    outbox: Outbox,
    clock: Clock,
    pool: ThreadPoolExecutor,
    database_url: str,
) -> None:
    outbox.bulk(500, first=1000)
    with psycopg.connect(database_url) as reader:
        # No vacuum may remove what this snapshot sees.
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert reader.execute("SELECT count(*) FROM outbox").fetchone() == (500,)
        with start_projector():
            wait_until(lambda: outbox.ids() == [], "all of them are settled")
            postgres.execute("VACUUM outbox")

            with commits_held_back(database_url):
                late = post_late(pool, api, "late")
                wait_until(lambda: held_back(postgres), "the late command is about to commit")
                for n in range(20):
                    assert post_user(api, f"newer{n}").status_code == 201
            assert late.result(40).status_code == 201

            # What wakes nobody is found by the sweep, over all that is dead.
            with psycopg.connect(database_url) as open_transaction:
                Outbox(open_transaction).user(2000)
                assert post_user(api, "newest").status_code == 201
            clock.now += 1
            wake_every_lane(api, "last")
            wait_until(lambda: outbox.ids() == [], "nothing is left")
        assert reader.execute("SELECT count(*) FROM outbox").fetchone() == (500,)


def test_a_session_that_locks_messages_holds_up_these_alone(
    stepped: Relay, outbox: Outbox, clock: Clock, database_url: str
) -> None:
    ids = [outbox.user(number) for number in range(1, 6)]
    with psycopg.connect(database_url) as idle:
        idle.execute("SELECT FROM outbox WHERE id = ANY(%s) FOR SHARE", (ids[1:3],))
        assert drain(stepped).settled == 3
        assert outbox.ids() == ids[1:3]

    clock.now += 1
    assert drain(stepped).settled == 2
