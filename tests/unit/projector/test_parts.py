"""Small parts of the projector that need no server."""

import threading
from typing import Any

import psycopg
import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, ServerSelectionTimeoutError

from projector.deadline import Deadline, DeadlinePassedError
from projector.failures import Failure, Patience
from projector.metrics import cause_of
from projector.outbox import notification_payloads
from projector.outcomes import Failed, Settled, Unfinished, aggregate_of, coalesce, settlement_of
from projector.relay import BatchCounts
from projector.replays import SwapUnfinishedError
from projector.retry import TRANSIENT, retrying
from projector.settings import ProjectorSettings
from projector.shapes import ShapeTooOldError
from projector.subscriber import Lane, RelaySubscriber, describe
from shared.installation import ForeignReadModelsError, InstallationChangedError, NotMigratedError
from shared.outbox.message import OutboxMessage
from tests.fixtures.relays import NOW


def message(message_id: int, aggregate_id: int, version: int, aggregate_type: str = "user") -> OutboxMessage:
    return OutboxMessage(
        message_id, aggregate_type, aggregate_id, version, f"{aggregate_type}.updated", b"{}", None, NOW, awaited=False
    )


def test_notifications_are_cut_below_what_postgresql_takes() -> None:
    ids = range(10**18, 10**18 + 5000)
    payloads = list(notification_payloads(ids))

    assert all(len(payload.encode()) < 8000 for payload in payloads)
    assert [int(part) for payload in payloads for part in payload.split(",")] == list(ids)


@pytest.mark.parametrize(("ids", "expected"), [([], []), ([7], ["7"]), ([7, 8], ["7,8"])])
def test_few_ids_go_in_one_notification(ids: list[int], expected: list[str]) -> None:
    assert list(notification_payloads(ids)) == expected


def test_the_newest_message_of_each_aggregate_is_kept() -> None:
    messages = [message(1, 1, 2), message(2, 1, 3), message(3, 1, 1), message(4, 2, 1), message(5, 1, 1, "item")]
    assert {(aggregate_of(m), m.aggregate_version) for m in coalesce(messages)} == {
        (("user", 1), 3),
        (("user", 2), 1),
        (("item", 1), 1),
    }


def test_every_message_has_one_outcome_that_of_its_aggregate() -> None:
    messages = [message(1, 1, 1), message(2, 1, 2), message(3, 2, 1), message(4, 3, 2)]
    outcomes = {("user", 1): Failed("broken"), ("user", 2): Settled(), ("user", 3): Unfinished(17)}

    settlement = settlement_of(messages, outcomes, Patience(5, 2))

    assert settlement.settled == [messages[2]]
    assert settlement.failed == {message: Failure("broken", 1, 2) for message in messages[:2]}
    assert not settlement.dead
    assert settlement.unfinished == {messages[3]: 17}


def test_a_deadline_counts_down_and_then_refuses() -> None:
    assert 59 < Deadline.after(60).remaining() <= 60
    assert not Deadline.after(60).has_passed()
    assert Deadline.after(0).has_passed()
    with pytest.raises(DeadlinePassedError):
        Deadline.after(-1).remaining()


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("server closed the connection"),
        psycopg.errors.AdminShutdown(),
        psycopg.errors.DeadlockDetected(),
        psycopg.errors.QueryCanceled(),
        psycopg.errors.LockNotAvailable(),
        psycopg.errors.IdleInTransactionSessionTimeout(),
        psycopg.errors.ReadOnlySqlTransaction(),
        psycopg.errors.FeatureNotSupported(),
        psycopg.errors.UndefinedTable(),
        psycopg.InterfaceError("the connection is closed"),
        AutoReconnect("connection closed"),
        ServerSelectionTimeoutError("no primary"),
        BulkWriteError({"writeErrors": [], "writeConcernErrors": [{}]}),
        DeadlinePassedError(),
        NotMigratedError(),
        InstallationChangedError(),
        ForeignReadModelsError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_by_itself_or_by_an_operators_hand_is_tried_again(error: Exception) -> None:
    stop = threading.Event()
    told: list[BaseException] = []
    attempts = 0
    for attempt in retrying(stop, on_retry=lambda fault, _: told.append(fault)):
        with attempt:
            attempts += 1
            if attempts == 1:
                raise error
    assert attempts == 2
    assert told == [error]


def test_an_error_of_ours_is_not_tried_again() -> None:
    assert not issubclass(KeyError, TRANSIENT)
    with pytest.raises(KeyError):
        retrying(threading.Event())({}.__getitem__, "missing")


def test_a_stop_ends_the_retries_without_an_error() -> None:
    stop = threading.Event()
    attempts = 0
    for attempt in retrying(stop, on_retry=lambda _, __: stop.set()):
        with attempt:
            attempts += 1
            raise psycopg.OperationalError
    assert attempts <= 2


def test_a_lane_says_what_it_waits_for_and_counts_what_it_does() -> None:
    subscriber = RelaySubscriber(2)
    assert subscriber.lanes == [Lane("starting"), Lane("starting")]
    for _ in range(3):
        subscriber.fault(0, psycopg.OperationalError("no  route\nto host"), 0.1)
    assert subscriber.lanes == [Lane("waiting", "OperationalError: no route to host"), Lane("starting")]
    assert subscriber.registry.get_sample_value("kata_relay_faults_total", {"cause": "postgres"}) == 3
    assert subscriber.registry.get_sample_value("kata_relay_lanes", {"state": "waiting"}) == 1
    assert subscriber.registry.get_sample_value("kata_relay_lanes", {"state": "starting"}) == 1

    subscriber.batch(0, BatchCounts(claimed=3, applied=2, stale=1, settled=2, dead=1, seconds=0.5))
    assert subscriber.lanes[0] == Lane("relaying")
    sample = subscriber.registry.get_sample_value
    assert sample("kata_relay_messages_total", {"outcome": "settled"}) == 2
    assert sample("kata_relay_messages_total", {"outcome": "dead"}) == 1
    assert sample("kata_relay_writes_total", {"verdict": "stale"}) == 1
    assert sample("kata_relay_batch_seconds_count") == 1
    assert sample("kata_relay_lanes", {"state": "relaying"}) == 1
    assert sample("kata_relay_lanes", {"state": "waiting"}) == 0


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (psycopg.errors.AdminShutdown(), "postgres"),
        (psycopg.errors.UndefinedColumn(), "migration"),
        (NotMigratedError(), "migration"),
        (AutoReconnect("connection closed"), "mongo"),
        (DeadlinePassedError(), "deadline"),
        (InstallationChangedError(), "installation"),
        (ForeignReadModelsError(), "installation"),
        (ShapeTooOldError(), "replay"),
        (SwapUnfinishedError(), "replay"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_fault_is_laid_where_it_lies(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause


@pytest.mark.parametrize("error", TRANSIENT)
def test_nothing_is_laid_to_postgresql_that_does_not_come_from_it(error: type[Exception]) -> None:
    assert cause_of(error()) != "postgres" or issubclass(error, psycopg.Error)


def test_an_error_is_described_in_one_line_without_the_servers_whole_answer() -> None:
    error = AutoReconnect("not primary\n  now, full error: {'ok': 0.0, 'a': 'long', 'answer': 1}")
    assert describe(error) == "AutoReconnect: not primary now"
    assert len(describe(ValueError("x" * 10_000))) < 520


@pytest.mark.parametrize(
    ("host", "changes", "address"),
    [
        ("0.0.0.0", {}, "127.0.0.1"),  # noqa: S104 - what must not be listened on
        ("projector.example.org", {}, "127.0.0.1"),
        ("0.0.0.0", {"allow_insecure_bind": True}, "0.0.0.0"),  # noqa: S104 - asked for
        ("0.0.0.0", {"tokens": f"ada:operate:{'0' * 64}"}, "0.0.0.0"),  # noqa: S104 - asked for
        ("127.0.0.2", {}, "127.0.0.2"),
        ("localhost", {}, "localhost"),
    ],
)
def test_without_tokens_only_this_machine_reaches_the_page(host: str, changes: dict[str, Any], address: str) -> None:
    assert ProjectorSettings(projector_http_host=host, **changes).http_address == address
