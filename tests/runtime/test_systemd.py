"""Tests for tradeproxy.runtime.systemd: what a supervisor is told, on a socket like systemd's."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import free_port
from tests.support.sockets import SocketTestCase
from tradeproxy.runtime.systemd import SystemdNotifier, build_notifier

US = 4711
"""The number of this process, in as far as the environment says."""


def supervise(address: str | bytes) -> socket.socket:
    """Return a socket that listens as systemd does."""
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor.setblocking(False)
    supervisor.bind(address)
    return supervisor


def told(supervisor: socket.socket) -> list[bytes]:
    """Return what has been said since the last time."""
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
        """Return what tells the supervisor of these tests."""
        notifier = build_notifier({"NOTIFY_SOCKET": self.address, **environ}, US, self.clock)
        assert notifier is not None
        return notifier

    def test_it_is_told_of_the_start_and_of_the_stop(self) -> None:
        """Once each, and nothing in between if nobody watches."""
        notifier = self.notifier()
        notifier.startService()
        self.assertEqual(told(self.supervisor), [b"READY=1"])
        self.clock.advance(1000)
        self.assertEqual(told(self.supervisor), [])
        notifier.stopService()
        self.assertEqual(told(self.supervisor), [b"STOPPING=1"])

    def test_a_watchdog_hears_twice_in_its_time(self) -> None:
        """As systemd advises; no longer once it has been told of the end."""
        notifier = self.notifier(WATCHDOG_USEC="60000000", WATCHDOG_PID=str(US))
        notifier.startService()
        self.assertEqual(told(self.supervisor), [b"READY=1", b"WATCHDOG=1"])
        for _ in range(2):
            self.clock.advance(29)
            self.assertEqual(told(self.supervisor), [])
            self.clock.advance(1)
            self.assertEqual(told(self.supervisor), [b"WATCHDOG=1"])
        notifier.stopService()
        self.clock.advance(60)
        self.assertEqual(told(self.supervisor), [b"STOPPING=1"])

    def test_a_watchdog_of_another_process_is_not_ours(self) -> None:
        """The variable may have been inherited; neither is one that is no number."""
        for environ in (
            {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
            {"WATCHDOG_USEC": "soon"},
        ):
            notifier = self.notifier(**environ)
            notifier.startService()
            self.clock.advance(60)
            self.assertEqual(told(self.supervisor), [b"READY=1"])
            notifier.stopService()
            told(self.supervisor)

    def test_a_supervisor_may_have_a_name_that_is_no_file(self) -> None:
        """Linux's abstract sockets are written with an at sign."""
        name = f"tradeproxy-test-{free_port()}"
        supervisor = supervise(f"\0{name}".encode())
        self.addCleanup(supervisor.close)
        notifier = build_notifier({"NOTIFY_SOCKET": f"@{name}"}, US, self.clock)
        assert notifier is not None
        notifier.startService()
        self.assertEqual(told(supervisor), [b"READY=1"])

    def test_without_a_supervisor_there_is_nobody_to_tell(self) -> None:
        """Nor is there over a transport that only virtual machines have."""
        for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
            self.assertIsNone(build_notifier(environ, US, self.clock))

    def test_a_supervisor_that_is_gone_costs_one_line(self) -> None:
        """And never the stream; when it is back, it is told again."""
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
        self.assertEqual(told(supervisor), [b"WATCHDOG=1"])


class RunningTests(SocketTestCase):
    """The whole proxy, and a supervisor."""

    async def test_ready_means_that_clients_can_come(self) -> None:
        """It listens by then, whether or not there is an Alpaca; the stop is announced before it begins."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        address = str(Path(directory, "notify"))
        supervisor = supervise(address)
        self.addCleanup(supervisor.close)
        proxy = await self.proxy(NOTIFY_SOCKET=address)
        await proxy.says("upstream is down")
        self.assertEqual(told(supervisor), [b"READY=1"])
        client = await self.subscribe()
        await proxy.stop()
        await client.gone()
        self.assertEqual(told(supervisor), [b"STOPPING=1"])
