"""schemathesis against the live service: whatever it sends is answered, and answered as the document says.

All checks, in all phases: examples, coverage (the bounds of every schema, wrong methods, missing parts), fuzzing, and
stateful (what a write answers is read, changed and deleted). SCHEMATHESIS_EXAMPLES=500 makes a long run of it.
"""

import os
import re
from typing import Any, Final

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import Case, Response
from schemathesis.checks import CheckFunction
from schemathesis.engine.errors import is_inconsistent_replay
from schemathesis.generation.stateful.state_machine import APIStateMachine
from schemathesis.specs.openapi.checks import (
    has_only_additional_properties_in_non_body_parameters,
    negative_data_rejection,
    positive_data_acceptance,
)

from api.app import create_app
from api.consistency.token import HEADER_NAME as CONSISTENCY_TOKEN
from api.settings import ApiSettings
from tests.contract.conftest import AUTHORIZATION, TOKEN
from tests.fixtures.clients import ApiClient

EXAMPLES: Final = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "25"))
pytestmark = pytest.mark.timeout(180 + 2 * EXAMPLES)

# What the document allows and the service refuses, deliberately: JSON Schema cannot say it. By kind of problem, and
# what it says of every wrong part.
REFUSED: Final = (
    # Opaque to clients: right is only what the service gave out. That the others are refused has its own tests.
    ("bad-token", r"The Consistency-Token cannot be used: .*"),
    ("bad-cursor", r"The cursor is not one that this list gave out: .*"),
    # A precondition that is well formed and does not hold: a matter of state, as a 404 or a 409 is.
    ("precondition-failed", r"It was changed meanwhile: .*"),
    # A key that another request used before: a matter of state, too.
    ("idempotency-key-reused", r".*"),
    # Two parameters, each of them right, that exclude each other.
    ("invalid-request", r"sort: q answers in id order and cannot be combined with sort"),
    # Text that a store cannot hold is refused wherever it stands, in unknown fields, too.
    ("invalid-request", r".*: Text must not hold the character NUL"),
    # `format: email` is a matter of syntax; email-validator knows domains, too, that never have mail.
    ("invalid-request", r"/email: value is not a valid email address: .*"),
)
# JSON types are taken strictly; to JSON Schema 1.0 is an integer.
NO_INTEGER: Final = "Input should be a valid integer"


def excluded(case: Case, response: Response) -> list[CheckFunction]:
    """Return the checks that do not hold for this answer, by design."""
    if response.status_code < 400:
        return [negative_data_rejection] if is_right_with_a_token(case) else []
    if response.status_code >= 500:
        return []
    problem: dict[str, Any] = response.json()
    kind = problem["type"].removeprefix("urn:kata:problem:")
    wrong = [(error["pointer"], error["detail"]) for error in problem.get("errors", ())]
    complaints = [
        f"{pointer}: {detail}" for pointer, detail in wrong if not (detail == NO_INTEGER and is_float(case, pointer))
    ]
    if not wrong:
        complaints = [problem["detail"]]
    deliberate = all(any(kind == k and re.fullmatch(d, c, re.DOTALL) for k, d in REFUSED) for c in complaints)
    return [positive_data_acceptance] if deliberate else []


def is_right_with_a_token(case: Case) -> bool:
    """Return whether nothing is wrong with it, but that it had no token, which every case is sent with.

    Parameters that no operation knows are no fault: the service passes over them.
    """
    before, case.headers = case.headers, {**(case.headers or {}), **AUTHORIZATION}
    try:
        return has_only_additional_properties_in_non_body_parameters(case)
    finally:
        case.headers = before


def is_float(case: Case, pointer: str) -> bool:
    """Return whether the body's field was sent as 1.0 is."""
    return isinstance(case.body, dict) and isinstance(case.body.get(pointer.removeprefix("/")), float)


document = schemathesis.openapi.from_dict(create_app(ApiSettings(tokens=TOKEN.entry())).openapi())


@document.parametrize()
@hypothesis.settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_answers_what_the_document_says(case: Case, live: ApiClient) -> None:
    response = case.call(base_url=str(live.base_url), headers=AUTHORIZATION)
    case.validate_response(response, excluded_checks=excluded(case, response))


def test_what_one_operation_answers_can_be_used_with_the_others(live: ApiClient) -> None:
    scenarios = 0

    class Clients(document.as_state_machine()):  # type: ignore[misc] - the class is made from the document
        def setup(self) -> None:
            nonlocal scenarios
            scenarios += 1
            self.token: str | None = None

        def before_call(self, case: Case) -> None:
            # Some writes do not wait, so what follows names the last, and waits: it must see it.
            if self.token and case.method == "GET" and CONSISTENCY_TOKEN not in (case.headers or {}):
                case.headers = {**(case.headers or {}), CONSISTENCY_TOKEN: self.token, "Prefer": "wait=10"}

        def after_call(self, response: Response, case: Case) -> None:
            super().after_call(response, case)
            self.token = response.headers.get(CONSISTENCY_TOKEN.lower(), [self.token])[0]

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:  # noqa: ARG002 - the base class fixes the signature
            return {"base_url": str(live.base_url), "headers": AUTHORIZATION}

        def validate_response(self, response: Response, case: Case, **options: Any) -> None:
            case.validate_response(
                response, excluded_checks=excluded(case, response), transport_kwargs=options, recorder=self.recorder
            )

    machine: type[APIStateMachine] = Clients
    bounds = hypothesis.settings(
        max_examples=EXAMPLES, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate], database=None,
    )  # fmt: skip
    while scenarios < EXAMPLES:
        try:
            machine.run(settings=bounds)
        except Exception as error:
            # The service remembers and hypothesis repeats: the same choices again meet an e-mail address that is taken.
            # Such a run is given up and the next one begins.
            if not (isinstance(error, FlakyStrategyDefinition) or is_inconsistent_replay(error)):
                raise
