"""Notifications of a real proxy to a socket like systemd's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.runtime.test_systemd import read_notifications, supervise
from tests.support.sockets import SocketTestCase


class RunningTests(SocketTestCase):
    """The whole proxy with a supervisor."""

    async def test_ready_while_upstream_is_down_means_listening(self) -> None:
        """READY=1 needs no Alpaca. STOPPING=1 is sent when the stop starts."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        address = str(Path(directory, "notify"))
        supervisor = supervise(address)
        self.addCleanup(supervisor.close)
        proxy = await self.proxy(NOTIFY_SOCKET=address)
        await proxy.says("upstream is down")
        self.assertEqual(read_notifications(supervisor), [b"READY=1"])
        client = await self.subscribe()
        await proxy.stop()
        await client.gone()
        self.assertEqual(read_notifications(supervisor), [b"STOPPING=1"])
