"""Lists: pages, filters and sorts, read from MongoDB while it is being written."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pymongo.database import Database

from projector.relay import Relay
from shared.mongo import Document
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox, drain

OWNERS = {
    1: {"id": 1, "name": "Ada", "email": "user1@example.org", "version": 1},
    2: {"id": 2, "name": "Bob", "email": "user2@example.org", "version": 1},
}


def ids(shown: list[dict[str, Any]]) -> list[int]:
    """Return the ids in the order shown."""
    return [one["id"] for one in shown]


@pytest.fixture
def cellar(unprojected: ApiClient, outbox: Outbox, relay: Relay) -> ApiClient:
    """Two users and nine items, two of which are deleted."""
    outbox.user(1)
    outbox.user(2, name="Bob")
    items: list[dict[str, Any]] = [
        {"name": "Aged Brie", "description": "Gets better with age", "tags": ["cheese", "soft"]},
        {"name": "Gouda", "tags": ["cheese", "hard"]},
        {"name": "Emmental", "tags": ["cheese", "hard", "holes"], "owner": OWNERS[2]},
        {"name": "brie", "tags": ["cheese", "soft"], "owner": OWNERS[2]},
        {"name": "Ärger mit Käse", "description": "Crème brûlée", "tags": ["Cheese"]},
        {"name": "Elixir", "tags": []},
        {"name": "Gouda", "description": "no brie at all", "tags": ["hard", "a&b=c", "é"]},
    ]
    for item_id, fields in enumerate(items, start=1):
        outbox.item(item_id, **{"owner": OWNERS[1]} | fields)
    for item_id in (8, 9):
        outbox.item(item_id, name="Brie", tags=["cheese", "gone"])
    drain(relay)
    outbox.deleted("item", 8, 2)
    outbox.deleted("item", 9, 2)
    outbox.user(3)
    drain(relay)
    outbox.deleted("user", 3, 2)
    drain(relay)
    return unprojected


QUERIES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4, 5, 6, 7]),
    ({"tag": "cheese"}, [1, 2, 3, 4]),
    ({"tag": "Cheese"}, [5]),
    ({"tag": ["cheese", "hard"]}, [2, 3]),
    ({"tag": ["hard", "holes", "cheese"]}, [3]),
    ({"tag": ["cheese", "nothing"]}, []),
    ({"tag": "gone"}, []),
    ({"tag": " cheese "}, [1, 2, 3, 4]),
    ({"tag": "e\u0301"}, [7]),
    ({"tag": "a&b=c"}, [7]),
    ({"owner_id": 2}, [3, 4]),
    ({"owner_id": 3}, []),
    ({"q": "brie"}, [1, 4, 7]),
    ({"q": "BRIE"}, [1, 4, 7]),
    ({"q": "brie age"}, [1]),
    ({"q": "age aged"}, [1]),
    ({"q": "käse"}, [5]),
    ({"q": "creme"}, [5]),
    ({"q": "at"}, [7]),
    ({"q": "-brie gouda"}, [7]),
    ({"q": '"no brie"'}, [7]),
    ({"q": "-brie"}, [1, 4, 7]),
    ({"q": "(brie), age!"}, [1]),
    ({"q": "bri"}, []),
    ({"q": "brie nothing"}, []),
    ({"q": "brie", "tag": "soft", "owner_id": 2}, [4]),
    ({"q": "brie", "tag": ["soft", "cheese"]}, [1, 4]),
    ({"tag": "hard", "owner_id": 1}, [2, 7]),
    ({"sort": "id"}, [1, 2, 3, 4, 5, 6, 7]),
    ({"sort": "-id"}, [7, 6, 5, 4, 3, 2, 1]),
    ({"sort": "name"}, [1, 6, 3, 2, 7, 4, 5]),
    ({"sort": "-name"}, [5, 4, 7, 2, 3, 6, 1]),
    ({"sort": "-name", "tag": "cheese"}, [4, 2, 3, 1]),
    ({"sort": "-updated_at", "owner_id": 1}, [7, 6, 5, 2, 1]),
    ({"unknown": "x"}, [1, 2, 3, 4, 5, 6, 7]),
]


def test_every_filter_and_sort_shows_the_same_on_pages_of_any_size(cellar: ApiClient) -> None:
    for parameters, found in QUERIES:
        for limit in (1, 2, 3, 100, 1000):
            pages = list(cellar.pages("/items", **parameters, limit=limit))
            assert [item_id for page in pages for item_id in ids(page)] == found, parameters
            # All pages but the last are full, and the last is never an empty one too many.
            assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
            assert len(pages) == max(1, -(-len(found) // limit))


def test_a_page_links_to_the_next_with_every_parameter(cellar: ApiClient) -> None:
    answer = cellar.get(
        "/items", params={"tag": ["hard", "cheese"], "sort": "-name", "owner_id": 1, "limit": 1, "x": "é&"}
    )
    assert "link" not in answer.headers
    answer = cellar.get("/items", params={"tag": ["cheese", "soft"], "sort": "-name", "limit": 1, "x": "é&"})
    link = answer.links["next"]
    assert link["rel"] == "next"
    assert urlsplit(link["url"]).path == "/items"
    parameters = parse_qs(urlsplit(link["url"]).query)
    cursor = parameters.pop("cursor")
    assert parameters == {"tag": ["cheese", "soft"], "sort": ["-name"], "limit": ["1"], "x": ["é&"]}
    assert len(cursor) == 1
    following = cellar.get(link["url"])
    assert ids(following.json()) == [1]
    assert "link" not in following.headers


def test_words_are_paged_in_id_order(cellar: ApiClient) -> None:
    assert [ids(page) for page in cellar.pages("/items", q="brie", limit=1)] == [[1], [4], [7]]


def test_nothing_deleted_is_ever_shown(cellar: ApiClient, read_models: Database[Document]) -> None:
    assert read_models["items_read"].count_documents({"deleted_at": {"$ne": None}}) == 2
    assert cellar.get("/items/8").json()["detail"] == "Item with id 8 not found"
    assert cellar.get("/users/3").json()["detail"] == "User with id 3 not found"
    assert ids(cellar.everything("/users")) == [1, 2]
    assert cellar.get("/users", params={"email": "user3@example.org"}).json() == []
    for parameters in ({}, {"q": "brie"}, {"tag": "cheese"}, {"sort": "-name"}, {"sort": "updated_at"}):
        assert not {8, 9} & set(ids(cellar.everything("/items", **parameters)))
    assert "gone" not in {tag["name"] for tag in cellar.get("/tags").json()}


def test_tags_are_counted_exactly_most_used_first_then_by_name(cellar: ApiClient, outbox: Outbox, relay: Relay) -> None:
    expected = [("cheese", 4), ("hard", 3), ("soft", 2), ("Cheese", 1), ("a&b=c", 1), ("holes", 1), ("é", 1)]
    for limit in (1, 2, 3, 7, 100):
        shown = [(tag["name"], tag["items"]) for tag in cellar.everything("/tags", limit=limit)]
        assert shown == expected
    assert [len(page) for page in cellar.pages("/tags", limit=3)] == [3, 3, 1]
    outbox.item(3, 2, tags=["holes"])
    outbox.deleted("item", 7, 2)
    drain(relay)
    shown = [(tag["name"], tag["items"]) for tag in cellar.get("/tags").json()]
    assert shown == [("cheese", 3), ("soft", 2), ("Cheese", 1), ("hard", 1), ("holes", 1)]


def test_users_are_found_by_their_address_however_its_domain_is_written(cellar: ApiClient) -> None:
    for email in ("user2@example.org", "user2@EXAMPLE.Org", " user2@example.org"):
        assert ids(cellar.get("/users", params={"email": email}).json()) == [2]
    for email in ("USER2@example.org", "user9@example.org", "user"):
        assert cellar.get("/users", params={"email": email}).json() == []
    assert [ids(page) for page in cellar.pages("/users", limit=1)] == [[1], [2]]


def test_in_id_order_nothing_is_skipped_or_shown_twice_whatever_is_written_meanwhile(
    unprojected: ApiClient, outbox: Outbox, relay: Relay
) -> None:
    outbox.user(1)
    stay = set(range(10, 110, 2))
    for item_id in stay | set(range(11, 110, 10)):
        outbox.item(item_id)
    drain(relay)
    seen: list[int] = []
    for number, page in enumerate(unprojected.pages("/items", limit=7)):
        seen += ids(page)
        # Before, within and after the page: some come, some go, some change.
        outbox.item(1 + number)
        outbox.item(200 + number)
        outbox.deleted("item", 11 + 10 * number, 2)
        outbox.deleted("item", seen[-1] + 1, 2)
        outbox.item(seen[-1] - seen[-1] % 2, 2 + number, name=f"changed {number}")
        if number % 2:
            outbox.item(seen[-1] + 1000)
        drain(relay)
        if number > 30:
            break
    assert seen == sorted(set(seen))
    assert stay <= set(seen)


def test_a_thousand_on_a_page(unprojected: ApiClient, outbox: Outbox, relay: Relay) -> None:
    for item_id in range(1, 1102):
        outbox.item(item_id)
    drain(relay)
    assert len(unprojected.get("/items").json()) == 100
    assert [len(page) for page in unprojected.pages("/items", limit=1000)] == [1000, 101]
    assert [len(page) for page in unprojected.pages("/items", limit=1000, sort="updated_at")] == [1000, 101]
    assert ids(unprojected.everything("/items", limit=551, sort="-updated_at")) == list(range(1101, 0, -1))


def test_an_answer_of_head_is_that_of_get_without_its_body(cellar: ApiClient) -> None:
    for path in ("/items?limit=2", "/items/1", "/users/9", "/tags", "/ready"):
        head, get = cellar.head(path), cellar.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == str(len(get.content))
        assert head.headers.get("link") == get.headers.get("link")


def test_a_slash_too_many_is_redirected(cellar: ApiClient) -> None:
    answer = cellar.get("/items/?limit=1")
    assert answer.status_code == 307
    assert httpx.URL(answer.headers["location"]).raw_path == b"/items?limit=1"
