"""GET /tags is exact: counted from the items as they are at the moment of the answer."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projector.relay import Relay
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox, drain
from tests.integration.reads.conftest import Reading

# None deletes the item; tags differ in case, and one has the form of an operator.
TAGS = st.lists(st.sampled_from(["a", "A", "b", "ç", "$c"]), unique=True)
WRITES = st.lists(st.tuples(st.integers(1, 8), st.none() | TAGS), min_size=1, max_size=20)


def as_listed(counts: Counter[str]) -> list[dict[str, object]]:
    ordered = sorted((-items, tag.encode()) for tag, items in counts.items())
    return [{"name": tag.decode(), "items": -items} for items, tag in ordered]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES)
def test_tags_are_exact_after_any_writes(
    outbox: Outbox, relay: Relay, unprojected: ApiClient, writes: list[tuple[int, list[str] | None]]
) -> None:
    latest = unprojected.get("/items", params={"limit": 1000}).json()
    items = {item["id"]: item["tags"] for item in latest}
    for item_id, tags in writes:
        version = next_version(outbox)
        if tags is None:
            items.pop(item_id, None)
            outbox.deleted("item", item_id, version)
        else:
            items[item_id] = tags
            outbox.item(item_id, version, tags=tags)
    drain(relay)
    expected = as_listed(Counter(tag for tags in items.values() for tag in tags))
    assert unprojected.get("/tags").json() == expected
    assert unprojected.everything("/tags", limit=2) == expected


def next_version(outbox: Outbox) -> int:
    """Return a version higher than all before: the id the next message gets."""
    row = outbox.connection.execute("SELECT nextval(pg_get_serial_sequence('outbox', 'id'))").fetchone()
    assert row
    return int(row[0])


def test_tags_are_exact_on_64_thousand_items_and_cost_one_pass_over_them(reading: Reading) -> None:
    expected = as_listed(reading.catalogue.tags)
    shown, explained = reading.get("/tags", limit=1000)
    assert shown == expected
    assert explained.documents == len(reading.catalogue.documents)
    assert "SORT" not in explained.stages  # the few groups are sorted, not the items
