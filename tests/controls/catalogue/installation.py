"""Guards of the question whose read models these are."""

from typing import Final

from tests.controls.control import Change, Control

RELAY: Final = "projector/relay.py"

INSTALLATION: Final = "tests/integration/projector/test_installation.py"
HANDSHAKE: Final = "tests/integration/projector/test_handshake.py"

CONTROLS: Final = (
    Control(
        "installation check of each batch",
        serves="12: whose read models",
        without="a relay goes on into read models that are another installation's by now",
        changes=[
            Change(
                RELAY,
                old="            if held.incarnation != installation:\n                raise InstallationChangedError\n",
                new="",
            )
        ],
        noticed_by={
            INSTALLATION: ["test_a_reset_of_the_tables_under_a_connected_relay_is_noticed_in_its_next_batch"],
        },
    ),
)
