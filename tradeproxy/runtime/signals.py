"""Process signals that Twisted does not handle."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

from twisted.internet.error import ReactorNotRunning


def stop_on_hangup(reactor: Any) -> None:
    """Stop cleanly on SIGHUP (the terminal was closed), as on SIGTERM.

    An unclean exit leaves Alpaca's connection slot in use for a while. A process that ignores
    SIGHUP (nohup) continues.
    """

    def stop() -> None:
        with suppress(ReactorNotRunning):  # the reactor is already stopping
            reactor.stop()

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(stop))
