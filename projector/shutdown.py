"""SIGTERM and SIGINT set one event; a second signal while draining ends the process at once."""

import signal
import threading
from types import FrameType


class StopSignals:
    """Installs the handlers and remembers which signal came."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.interrupted = False

    def install(self) -> None:
        """Take the signals over. To be called on the main thread."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.interrupted = number == signal.SIGINT
        # On a thread of its own: the main thread may be inside stop.wait() and hold the event's lock just now.
        threading.Thread(target=self.stop.set).start()
