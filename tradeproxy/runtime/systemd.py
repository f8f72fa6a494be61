"""Notify systemd of the start, of the stop, and at a regular interval (the watchdog).

The protocol is sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

MICROSECOND = 1e-6


def build_notifier(
    environ: Mapping[str, str], process: int, clock: IReactorTime
) -> SystemdNotifier | None:
    """Return the service that notifies the supervisor. None without a usable NOTIFY_SOCKET."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):  # "vsock:" is for virtual machines
        return None
    patience = environ.get("WATCHDOG_USEC", "")
    is_watched = patience.isdigit() and environ.get("WATCHDOG_PID", str(process)) == str(process)
    return SystemdNotifier(address, int(patience) * MICROSECOND / 2 if is_watched else None, clock)


class SystemdNotifier(Service):
    """Sends READY=1 at its start and STOPPING=1 at its stop.

    It is the last of the services. READY=1 therefore means that all others have started.
    In between it sends WATCHDOG=1 every `interval` seconds. The reactor sends it, so a stuck
    reactor sends none, and systemd restarts the process. A fault at Alpaca does not stop it.
    """

    _log = Logger()

    def __init__(self, address: str, interval: float | None, clock: IReactorTime) -> None:
        # "@" marks an abstract address.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._interval = interval
        self._is_reachable = True
        self._watchdog = LoopingCall(self._notify, "WATCHDOG=1")
        self._watchdog.clock = clock

    def startService(self) -> None:
        """Send READY=1 and start the watchdog."""
        super().startService()
        self._notify("READY=1")
        if self._interval:
            self._watchdog.start(self._interval)

    def stopService(self) -> None:
        """Stop the watchdog and send STOPPING=1. systemd then ignores the watchdog."""
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
                reason = error.strerror
                self._log.warn("NOTIFY_SOCKET: cannot tell the supervisor: {reason}", reason=reason)
            self._is_reachable = False
        else:
            self._is_reachable = True
