"""One application, its databases and a relay, for all examples of a module."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from pymongo.database import Database

from api.settings import ApiSettings
from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.mongo import Document, create_client, ensure_read_models, read_model_database
from tests.fixtures.relays import Outbox
from tests.fuzz.service import Service, running
from tests.fuzz.tried import RESULT, Tried


def pytest_configure(config: pytest.Config) -> None:
    """Have the long form write what it tried."""
    if RESULT:
        config.pluginmanager.register(Tried(Path(RESULT)))


@dataclass(frozen=True)
class World:
    """Databases of a module's own. `relay` is stepped by hand."""

    settings: ProjectorSettings
    postgres: psycopg.Connection
    read_models: Database[Document]
    relay: Relay

    @property
    def outbox(self) -> Outbox:
        """What appends messages as they never were."""
        return Outbox(self.postgres)


@pytest.fixture(scope="module")
def world(
    create_database: Callable[[str | None], str], template: str, mongo_url: str, request: pytest.FixtureRequest
) -> Iterator[World]:
    """The databases, with nothing in them at first."""
    settings = ProjectorSettings.model_validate(
        {
            "database_url": create_database(template),
            "mongo_url": mongo_url,
            "mongo_database": request.module.__name__.replace(".", "_"),
            "max_attempts": 2,
            "retry_pause_seconds": 0,
        }
    )
    with create_client(settings, "fuzz") as client:
        client.drop_database(settings.mongo_database)
        database = read_model_database(client, settings)
        ensure_read_models(database)
        connection = partial(open_relay_connection, settings, "fuzz relay", database)
        relay = Relay(settings, connection, Delivery.of(settings, database), ClaimPosition(), name="fuzz relay")
        with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as postgres:
            yield World(settings, postgres, database, relay)
        relay.close()
        client.drop_database(settings.mongo_database)


@pytest.fixture(scope="module")
def service(world: World) -> Iterator[Service]:
    """An application on these databases, whose writes do not wait."""
    settings = world.settings
    with running(
        ApiSettings(
            database_url=settings.database_url,
            mongo_url=settings.mongo_url,
            mongo_database=settings.mongo_database,
            default_wait_seconds=0,
        )
    ) as started:
        yield started
