"""Turns signals into something a loop can wait for, so that nothing is interrupted midway.

SIGINT, SIGTERM and SIGHUP ask to stop; SIGCHLD only wakes. Further requests while stopping change nothing. A
SIGHUP that was ignored at the start (nohup) stays ignored.
"""

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Any, Self

from devstack.errors import InterruptedStartError

ASKING_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """Inside its `with`, the first signal is noted in `received` instead of ending the process."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._awake, self._wake = socket.socketpair()
        for end in (self._awake, self._wake):
            end.setblocking(False)
        self._previous_wakeup = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (*ASKING_TO_STOP, signal.SIGCHLD):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        self._awake.close()
        self._wake.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number != signal.SIGCHLD and self.received is None:
            self.received = signal.Signals(number)

    def wait(self, seconds: float) -> None:
        """Return when a signal arrives, a child ends, or the time is over."""
        if self.received is None and select.select([self._awake], [], [], seconds)[0]:
            self._awake.recv(4096)

    def check(self) -> None:
        """Raise InterruptedStartError when somebody asked to stop."""
        if self.received is not None:
            message = f"Interrupted by {self.received.name}: everything that had started was stopped."
            raise InterruptedStartError(message)
