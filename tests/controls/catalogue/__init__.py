"""Every control there is."""

from typing import Final

from tests.controls.catalogue import api, documents, installation, relay, replay
from tests.controls.control import Control

CONTROLS: Final[tuple[Control, ...]] = (
    *documents.CONTROLS,
    *relay.CONTROLS,
    *replay.CONTROLS,
    *installation.CONTROLS,
    *api.CONTROLS,
)
