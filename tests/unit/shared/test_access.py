"""Where the port is open: without tokens on this machine alone, unless that is waived in so many words."""

from typing import Final, NamedTuple

import pytest
from structlog.testing import capture_logs

from api.settings import ApiSettings
from projector.settings import ProjectorSettings
from shared.access import BOUND_TO_LOOPBACK, OPEN_TO_ANYBODY, AccessSettings, is_loopback
from shared.bearer import new_token

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - no test listens there
TOKENS: Final = new_token("ada", ["read"])[1].entry()


class Case(NamedTuple):
    """What is set, and what comes of it."""

    host: str
    tokens: str
    allowed: bool
    address: str
    warning: str | None


CASES: Final = (
    Case("127.0.0.1", "", allowed=False, address="127.0.0.1", warning=None),
    Case("localhost", "", allowed=False, address="localhost", warning=None),
    Case("::1", "", allowed=True, address="::1", warning=None),
    Case(EVERYWHERE, "", allowed=False, address="127.0.0.1", warning=BOUND_TO_LOOPBACK),
    Case("10.1.2.3", " , \n", allowed=False, address="127.0.0.1", warning=BOUND_TO_LOOPBACK),
    Case(EVERYWHERE, "", allowed=True, address=EVERYWHERE, warning=OPEN_TO_ANYBODY),
    Case(EVERYWHERE, TOKENS, allowed=False, address=EVERYWHERE, warning=None),
    Case(EVERYWHERE, TOKENS, allowed=True, address=EVERYWHERE, warning=None),
)


@pytest.mark.parametrize(
    ("settings", "host_setting"), [(ApiSettings, "api_host"), (ProjectorSettings, "projector_http_host")]
)
@pytest.mark.parametrize("case", CASES)
def test_the_port_is_open_to_others_only_with_tokens_or_when_that_is_waived(
    settings: type[AccessSettings], host_setting: str, case: Case
) -> None:
    loaded = settings.load(**{host_setting: case.host}, tokens=case.tokens, allow_insecure_bind=case.allowed)
    assert loaded.http_address == case.address
    with capture_logs() as logs:
        loaded.warn_of_exposure()
    assert [(line["event"], line["log_level"]) for line in logs] == (
        [(case.warning, "warning")] if case.warning else []
    )


@pytest.mark.parametrize("host", ["", EVERYWHERE, "::", "10.0.0.1", "localhost.example.org", "127.0.0.1.example.org"])
def test_what_is_not_this_machine_alone_is_not_taken_for_it(host: str) -> None:
    assert not is_loopback(host)
