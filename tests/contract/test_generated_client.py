"""A client that a public generator makes from the document creates and reads an item; operation ids name its calls."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from projector.process import Projector
from tests.contract.conftest import SECRET, TOKEN
from tests.fixtures.clients import ApiClient

PACKAGE = "generated_kata_client"


@pytest.fixture
def api(make_api: Callable[..., ApiClient]) -> ApiClient:
    """A client of an API that asks for a token, on this test's databases."""
    return make_api(tokens=TOKEN.entry())


@pytest.fixture
def generated(api: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package that openapi-python-client makes of the running service's document."""
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(api.get("/openapi.json").json()), encoding="utf-8")
    programs = Path(sys.executable).parent
    # It formats what it made with the ruff that is on the path.
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [programs / "openapi-python-client", "generate", "--path", document, "--output-path", tmp_path / PACKAGE,
         "--meta", "none", "--fail-on-warning"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(PACKAGE)


def test_a_generated_client_creates_and_reads_an_item(
    running_projector: Projector, api: ApiClient, generated: ModuleType
) -> None:
    operations = {
        name: importlib.import_module(f"{PACKAGE}.api.{tag}.{name}")
        for tag, name in (
            ("users", "create_user"), ("items", "create_item"), ("items", "get_item"), ("items", "list_items"),
            ("operations", "ready"),
        )
    }  # fmt: skip
    models = importlib.import_module(f"{PACKAGE}.models")

    base_url = str(api.base_url)
    with generated.AuthenticatedClient(base_url, SECRET, raise_on_unexpected_status=True) as client:
        user = operations["create_user"].sync(
            client=client, body=models.UserCreate(name="Ada", email="ada@example.org")
        )
        new = models.ItemCreate(name="Aged Brie", sell_in=2, quality=0, owner_id=user.id, tags=["cheese"])
        answer = operations["create_item"].sync_detailed(client=client, body=new, idempotency_key="k1", prefer="wait=9")
        again = operations["create_item"].sync(client=client, body=new, idempotency_key="k1")
        read = operations["get_item"].sync(item_id=answer.parsed.id, client=client)
        listed = operations["list_items"].sync(client=client, tag=["cheese"], sort=models.ListItemsSort.VALUE_1)
        missing = operations["get_item"].sync_detailed(item_id=999, client=client)
        readiness = operations["ready"].sync(client=client)
    with generated.AuthenticatedClient(base_url, "kata_stolen", raise_on_unexpected_status=True) as stranger:
        refused = operations["get_item"].sync_detailed(item_id=answer.parsed.id, client=stranger)

    assert answer.status_code == 201
    assert answer.parsed == again == read
    assert listed == [read]
    assert (read.name, read.owner.name, read.tags, read.description) == ("Aged Brie", "Ada", ["cheese"], None)
    assert read.created_at.tzinfo is not None
    assert (missing.status_code, missing.parsed.detail) == (404, "Item with id 999 not found")
    assert (refused.status_code, refused.parsed.detail) == (401, "The token is not good here")
    assert readiness.status == models.ReadinessStatus.READY
