"""Signals to a real process that stops."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString

from tests.support.processes import free_port
from tests.support.sockets import SocketTestCase


class StopSignalTests(SocketTestCase):
    """A user who presses ^C again wants the end now, and no traceback."""

    async def test_second_signal_ends_a_stop_that_waits(self) -> None:
        """A client does not answer the close frame, which costs two seconds otherwise.

        Twisted raised an error at the second signal, which was logged as critical.
        """
        alpaca = await self.simulate()
        for signal in ("INT", "TERM"):
            proxy = await self.proxy()
            client = await self.subscribe()
            transport: Any = client.transport
            transport.pauseProducing()  # it answers no close frame
            began = monotonic()
            proxy.send(signal)
            await proxy.says("stopping")
            proxy.send(signal)
            await proxy.ended
            self.assertLess(monotonic() - began, 1.5)
            self.assertIn(f"SIG{signal} again: stopping without waiting", proxy.output)
            self.assertIn("stopped\n", proxy.output)
            for word in ("Traceback", "critical", "ReactorNotRunning"):
                self.assertNotIn(word, proxy.output)
            transport.abortConnection()
            await alpaca.when_gone()

    async def test_two_signals_at_once_are_no_error(self) -> None:
        """For the other commands, too."""
        port = str(free_port())
        simulate = self.command(sys.executable, "-m", "tradeproxy", "simulate", "--port", port)
        await simulate.says("simulating Alpaca")
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")
        client = await self.dial(endpoint, f"ws://127.0.0.1:{port}/stream")
        await client.opened  # until then Twisted's handlers may be missing
        for _ in range(2):
            simulate.send("INT")
        await simulate.ended
        self.assertNotIn("Traceback", simulate.output)
