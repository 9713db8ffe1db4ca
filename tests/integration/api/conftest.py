"""An API that many tests of refused requests share: nothing they send changes anything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from pymongo import MongoClient

from api.settings import ApiSettings
from shared.mongo import Document, ensure_read_models
from tests.fixtures.clients import ApiClient, row_counts, serving


@dataclass(frozen=True)
class Untouched:
    """An API with two users and an item in its write model, and no projector."""

    api: ApiClient
    postgres: psycopg.Connection
    user_id: int
    item_id: int

    def counts(self) -> dict[str, int]:
        """Return the rows of every table."""
        return row_counts(self.postgres)


@pytest.fixture(scope="module")
def untouched(create_database: Callable[[str | None], str], template: str, mongo_url: str) -> Iterator[Untouched]:
    """Shared by the tests of a module. Each asserts that it changed nothing."""
    database_url = create_database(template)
    settings = ApiSettings(
        database_url=database_url,  # type: ignore[arg-type] - settings read text
        mongo_url=mongo_url,  # type: ignore[arg-type] - settings read text
        mongo_database="never_written",
        default_wait_seconds=0,
        # As one that is reached from elsewhere: it is asked under any name.
        api_host="0.0.0.0",  # noqa: S104 - the client is on this machine
        allow_insecure_bind=True,
    )
    with MongoClient[Document](mongo_url) as client:
        ensure_read_models(client["never_written"])
    with serving(settings) as api, psycopg.connect(database_url, autocommit=True) as postgres:
        user = api.new_user()
        api.new_user("Bob", "bob@example.org")
        yield Untouched(api, postgres, user["id"], api.new_item(user["id"])["id"])
