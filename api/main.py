"""Runs the API: `python -m api.main`. SIGTERM drains: committed writes that still wait answer 202."""

import asyncio
import signal
import socket
import sys
from types import FrameType

import uvicorn

from api.app import create_app
from api.consistency.settlements import Settlements
from api.settings import ApiSettings
from shared.garbage import collect_seldom
from shared.logs import configure_logs
from shared.telemetry import Tracing

DRAIN_SECONDS = 10
INTERRUPTED = 130


class DrainingServer(uvicorn.Server):
    """Lets nobody wait any longer once it was told to stop."""

    def __init__(self, config: uvicorn.Config, settlements: Settlements) -> None:
        super().__init__(config)
        self._settlements = settlements
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal; what waits for its projection is answered now."""
        if self._loop:
            # A signal comes between any two steps of the loop's own work, so the loop itself must do this.
            self._loop.call_soon_threadsafe(self._settlements.drain)
        super().handle_exit(sig, frame)


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = ApiSettings.load_or_exit()
    configure_logs(settings.log_level, settings.log_format, "api")
    tracing = Tracing.of(settings, "api")
    settings.warn_of_exposure()
    app = create_app(settings, tracing)
    config = uvicorn.Config(
        app,
        host=settings.http_address,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    collect_seldom()
    # Having drained, uvicorn raises the signal again; without a handler that would end the process by the signal.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: None)
    try:
        DrainingServer(config, app.state.settlements).run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        if tracing:
            tracing.close()


if __name__ == "__main__":
    main()
