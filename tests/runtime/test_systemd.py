"""Tests for tradeproxy.runtime.systemd: notifications on a socket like systemd's."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import free_port
from tradeproxy.runtime.systemd import SystemdNotifier, build_notifier

US = 4711
"""The process id in WATCHDOG_PID."""


def supervise(address: str | bytes) -> socket.socket:
    """Return a socket that listens as systemd does."""
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor.setblocking(False)
    supervisor.bind(address)
    return supervisor


def read_notifications(supervisor: socket.socket) -> list[bytes]:
    """Return the notifications since the last call."""
    said = []
    try:
        while True:
            said.append(supervisor.recv(100))
    except BlockingIOError:
        return said


class NotifierTests(SynchronousTestCase):
    """READY=1, WATCHDOG=1, STOPPING=1."""

    def setUp(self) -> None:
        directory = (
            tempfile.mkdtemp()
        )  # trial's own are deeper than the 107 bytes of a socket's path
        self.addCleanup(shutil.rmtree, directory)
        self.address = str(Path(directory, "notify"))
        self.supervisor = supervise(self.address)
        self.addCleanup(self.supervisor.close)
        self.clock = Clock()

    def notifier(self, **environ: str) -> SystemdNotifier:
        """Return a notifier for the supervisor of these tests."""
        notifier = build_notifier({"NOTIFY_SOCKET": self.address, **environ}, US, self.clock)
        assert notifier is not None
        return notifier

    def test_start_and_stop_without_watchdog_send_ready_and_stopping(self) -> None:
        """Without a watchdog it sends READY=1 and STOPPING=1 once each, and nothing in between."""
        notifier = self.notifier()
        notifier.startService()
        self.assertEqual(read_notifications(self.supervisor), [b"READY=1"])
        self.clock.advance(1000)
        self.assertEqual(read_notifications(self.supervisor), [])
        notifier.stopService()
        self.assertEqual(read_notifications(self.supervisor), [b"STOPPING=1"])

    def test_watchdog_interval_is_half_its_timeout_until_the_stop(self) -> None:
        """The interval follows systemd's advice. After STOPPING=1 it sends nothing."""
        notifier = self.notifier(WATCHDOG_USEC="60000000", WATCHDOG_PID=str(US))
        notifier.startService()
        self.assertEqual(read_notifications(self.supervisor), [b"READY=1", b"WATCHDOG=1"])
        for _ in range(2):
            self.clock.advance(29)
            self.assertEqual(read_notifications(self.supervisor), [])
            self.clock.advance(1)
            self.assertEqual(read_notifications(self.supervisor), [b"WATCHDOG=1"])
        notifier.stopService()
        self.clock.advance(60)
        self.assertEqual(read_notifications(self.supervisor), [b"STOPPING=1"])

    def test_watchdog_of_another_process_or_invalid_is_ignored(self) -> None:
        """An inherited or invalid WATCHDOG_USEC starts no watchdog."""
        for environ in (
            {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
            {"WATCHDOG_USEC": "soon"},
        ):
            notifier = self.notifier(**environ)
            notifier.startService()
            self.clock.advance(60)
            self.assertEqual(read_notifications(self.supervisor), [b"READY=1"])
            notifier.stopService()
            read_notifications(self.supervisor)

    def test_abstract_socket_receives_ready(self) -> None:
        """An at sign marks a Linux abstract socket."""
        name = f"tradeproxy-test-{free_port()}"
        supervisor = supervise(f"\0{name}".encode())
        self.addCleanup(supervisor.close)
        notifier = build_notifier({"NOTIFY_SOCKET": f"@{name}"}, US, self.clock)
        assert notifier is not None
        notifier.startService()
        self.assertEqual(read_notifications(supervisor), [b"READY=1"])

    def test_missing_or_unsupported_address_builds_no_notifier(self) -> None:
        """An unset address and the vsock transport of virtual machines give None."""
        for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
            self.assertIsNone(build_notifier(environ, US, self.clock))

    def test_unreachable_supervisor_logs_one_line(self) -> None:
        """The service goes on, and notifies the supervisor again when it is back."""
        self.supervisor.close()
        Path(self.address).unlink()
        notifier = self.notifier(WATCHDOG_USEC="2000000")
        with capturedLogs() as logged:
            notifier.startService()
            self.clock.pump([1, 1, 1])
        [line] = [formatEvent(event) for event in logged]
        self.assertEqual(
            line, "NOTIFY_SOCKET: cannot tell the supervisor: No such file or directory"
        )
        supervisor = supervise(self.address)
        self.addCleanup(supervisor.close)
        self.clock.advance(1)
        self.assertEqual(read_notifications(supervisor), [b"WATCHDOG=1"])
