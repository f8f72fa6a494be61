"""What we tell systemd: that we serve, that we stop, and, as often as it wants to know, that we are alive.

The protocol is sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorTime

MICROSECOND = 1e-6


def build_notifier(
    environ: Mapping[str, str], process: int, clock: IReactorTime
) -> SystemdNotifier | None:
    """Return the service that tells whoever supervises this process; None if nobody asks."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):  # "vsock:" is how virtual machines are asked
        return None
    patience = environ.get("WATCHDOG_USEC", "")
    is_watched = patience.isdigit() and environ.get("WATCHDOG_PID", str(process)) == str(process)
    return SystemdNotifier(address, int(patience) * MICROSECOND / 2 if is_watched else None, clock)


class SystemdNotifier(Service):
    """Says READY=1 at its start and STOPPING=1 at its stop: the last of the services, so that both are true.

    In between it says WATCHDOG=1 every `interval` seconds. It comes from the reactor: one that is stuck is
    silent, and will be restarted. What is wrong at Alpaca is no reason for that.
    """

    _log = Logger()

    def __init__(self, address: str, interval: float | None, clock: IReactorTime) -> None:
        self._address = (
            f"\0{address[1:]}" if address.startswith("@") else address
        )  # "@": the abstract ones
        self._interval = interval
        self._is_reachable = True
        self._watchdog = LoopingCall(self._notify, "WATCHDOG=1")
        self._watchdog.clock = clock

    def startService(self) -> None:
        """Say that everything is up."""
        super().startService()
        self._notify("READY=1")
        if self._interval:
            self._watchdog.start(self._interval)

    def stopService(self) -> None:
        """Say that the end has begun; the watchdog does not count any more."""
        super().stopService()
        if self._watchdog.running:
            self._watchdog.stop()
        self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
                teller.setblocking(False)
                teller.sendto(state.encode(), self._address)
        except OSError as error:
            if self._is_reachable:
                self._log.warn(
                    "NOTIFY_SOCKET: cannot tell the supervisor: {reason}", reason=error.strerror
                )
            self._is_reachable = False
        else:
            self._is_reachable = True
