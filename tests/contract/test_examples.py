"""The examples in the document are true: what can be sent is sent as it is, what is answered looks like them."""

import re
from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs

from api.app import create_app
from api.settings import ApiSettings
from projector.process import Projector
from tests.fixtures.clients import ApiClient

DOCUMENT: Final[dict[str, Any]] = create_app(ApiSettings()).openapi()
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]
METHODS: Final = ("post", "put", "get", "delete")


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and description of every operation, in an order that works: users own the items."""
    found = [(method, path, operation) for path, methods in DOCUMENT["paths"].items()
             for method, operation in methods.items()]  # fmt: skip
    return sorted(found, key=lambda one: (METHODS.index(one[0]), "/users" not in one[1]))


def bodies(operation: dict[str, Any]) -> list[Any]:
    """Return the examples of the body; one that is absent when there is none to send."""
    if "requestBody" not in operation:
        return [None]
    reference: str = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    examples: list[Any] = SCHEMAS[reference.rpartition("/")[2]]["examples"]
    return examples


def test_every_example_of_a_request_succeeds_as_it_is(running_projector: Projector, api: ApiClient) -> None:
    sent = 0
    for method, path, operation in operations():
        if method == "delete":  # has no examples, and would take away what the others need
            continue
        given = [(parameter["name"], parameter["in"], example) for parameter in operation.get("parameters", ())
                 for example in parameter["schema"].get("examples", ())]  # fmt: skip
        for body in bodies(operation):
            answer = api.request(method, re.sub(r"\{\w+\}", "1", path), json=body)
            assert answer.is_success, (method, path, body, answer.text)
            sent += 1
        for name, place, example in given if method == "get" else ():
            values = {"headers" if place == "header" else "params": {name: example}}
            answer = api.request(method, re.sub(r"\{\w+\}", "1", path), **values)
            assert answer.is_success, (method, path, name, example, answer.text)
            sent += 1
    assert sent > 15


def test_every_operation_that_takes_a_body_has_an_example() -> None:
    assert all(bodies(operation) for _, _, operation in operations())


def test_every_answer_has_an_example() -> None:
    answered = {name for name in SCHEMAS if name.endswith("Out")}
    assert answered >= {"ItemOut", "UserOut", "TagOut"}
    nested = {"OwnerOut"}
    assert {name for name in answered - nested if not SCHEMAS[name].get("examples")} == set()


def with_examples(part: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema in the document that has examples, and where it stands."""
    if isinstance(part, dict):
        if isinstance(part.get("examples"), list):
            yield place, part
        for name, inner in part.items():
            yield from with_examples(inner, f"{place}/{name}")
    elif isinstance(part, list):
        for index, inner in enumerate(part):
            yield from with_examples(inner, f"{place}/{index}")


def test_every_example_is_what_its_schema_describes() -> None:
    found = dict(with_examples(DOCUMENT, "#"))
    for place, schema in found.items():
        validator = jsonschema_rs.validator_for(schema | {"components": DOCUMENT["components"]}, validate_formats=True)
        wrong = [str(error) for example in schema["examples"] for error in validator.iter_errors(example)]
        assert wrong == [], place
    assert len(found) > 15
