"""A catalogue of 64 thousand items, an API on it, and what the server says about the queries that the API sends."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from api.settings import ApiSettings
from shared.mongo import Document, ensure_read_models
from shared.read_models import ITEMS_READ, READ_MODELS, USERS_READ
from tests.fixtures.clients import ApiClient, serving
from tests.integration.reads.catalogue import Catalogue, make_catalogue, users

DATABASE = "catalogue_of_reads"


@dataclass(frozen=True)
class Explained:
    """What the server says about a query: explain() with the numbers of its execution."""

    stages: Sequence[str]
    indexes: Sequence[str]
    keys: int
    documents: int
    returned: int


@dataclass(frozen=True)
class Reading:
    """An API whose read models hold the catalogue."""

    api: ApiClient
    database: Database[Document]
    catalogue: Catalogue

    def get(self, path: str, **parameters: Any) -> tuple[list[dict[str, Any]], Explained]:
        """Send a request; return its answer and the explanation of the first command that it sent to MongoDB."""
        with self._profiled() as entries:
            answer = self.api.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json(), self._explain(entries[0]["command"])

    @contextmanager
    def _profiled(self) -> Iterator[list[Document]]:
        """Collect what the server did meanwhile with the read models."""
        entries: list[Document] = []
        self.database.drop_collection("system.profile")
        self.database.command("profile", 2)
        try:
            yield entries
        finally:
            self.database.command("profile", 0)
        names = [f"{self.database.name}.{read_model.name}" for read_model in READ_MODELS]
        entries += self.database["system.profile"].find({"ns": {"$in": names}}).sort("$natural", 1)

    def _explain(self, command: Document) -> Explained:
        sent = {name: value for name, value in command.items() if name not in {"lsid", "$db", "$clusterTime"}}
        explained = self.database.command("explain", sent, verbosity="executionStats")
        executions = list(_found("executionStats", explained))
        stages = [stage for plan in _found("winningPlan", explained) for stage in _stages(plan.get("queryPlan", plan))]
        return Explained(
            stages=[stage["stage"] for stage in stages],
            indexes=[stage["indexName"] for stage in stages if stage["stage"] == "IXSCAN"],
            keys=sum(execution["totalKeysExamined"] for execution in executions),
            documents=sum(execution["totalDocsExamined"] for execution in executions),
            returned=executions[0]["nReturned"],
        )


def _found(name: str, explained: Any) -> Iterator[Document]:
    """Yield every value of this name: an aggregation explains each of its queries somewhere inside."""
    if isinstance(explained, list):
        for part in explained:
            yield from _found(name, part)
    elif isinstance(explained, dict):
        if name in explained:
            yield explained[name]
        for part in explained.values():
            yield from _found(name, part)


def _stages(stage: Document) -> Iterator[Document]:
    yield stage
    for inner in [stage["inputStage"]] if "inputStage" in stage else stage.get("inputStages", []):
        yield from _stages(inner)


@pytest.fixture(scope="package")
def reading(create_database: Callable[[str | None], str], template: str, mongo_url: str) -> Iterator[Reading]:
    """Shared by the tests of this directory, which only read."""
    settings = ApiSettings(
        database_url=SecretStr(create_database(template)),
        mongo_url=SecretStr(mongo_url),
        mongo_database=DATABASE,
    )
    catalogue = make_catalogue()
    with MongoClient[Document](mongo_url, tz_aware=True) as client:
        database = client[DATABASE]
        fill(database, catalogue)
        with serving(settings) as api:
            yield Reading(api, database, catalogue)
        client.drop_database(DATABASE)


def fill(database: Database[Document], catalogue: Catalogue) -> None:
    """Insert the catalogue past the API; the validators look at every document."""
    database.client.drop_database(database.name)
    for read_model in READ_MODELS:
        database.create_collection(read_model.name, validator=read_model.validator)
    database[USERS_READ.name].insert_many(users(), ordered=False)
    database[ITEMS_READ.name].insert_many(catalogue.documents, ordered=False)
    ensure_read_models(database)
