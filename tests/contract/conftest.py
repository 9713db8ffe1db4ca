"""A live service, API and projector, that the tests of a module share. It asks for a token."""

from collections.abc import Callable, Iterator
from typing import Final

import pytest
from pymongo import MongoClient

from api.settings import ApiSettings
from projector.settings import ProjectorSettings
from shared.bearer import new_token
from tests.fixtures.clients import ApiClient, serving
from tests.fixtures.relays import projecting

SECRET, TOKEN = new_token("contract", ["write"])
AUTHORIZATION: Final = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def live(create_database: Callable[[str | None], str], template: str, mongo_url: str) -> Iterator[ApiClient]:
    """A client of the service, which has databases of its own."""
    connections = {"database_url": create_database(template), "mongo_url": mongo_url, "mongo_database": "live"}
    with MongoClient(mongo_url) as client:
        client.drop_database("live")
    with (
        projecting(ProjectorSettings.model_validate(connections | {"projector_http_port": 0})),
        serving(ApiSettings.model_validate(connections | {"api_port": 0, "tokens": TOKEN.entry()})) as api,
    ):
        yield api
