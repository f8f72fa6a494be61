"""SIGHUP and real processes: with a terminal, without one, under nohup and as a daemon."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.frames import AUTHENTICATED
from tests.support.processes import SCRIPTS, Command, free_port
from tests.support.sockets import SocketClient, SocketTestCase
from tradeproxy.simulator.faults import Fault, FaultKind

OLD, KEPT = "old-token-of-16-characters", "kept-token-of-16-chars"
READ = "the settings were read again: "


class HangupCommandTests(SocketTestCase):
    """Proxies whose settings are in a .env."""

    def setUp(self) -> None:
        self.directory = self.make_directory()
        self.port = free_port(following=2)

    def write(self, **variables: str) -> None:
        """Write a .env with the port and these variables."""
        lines = {
            "ALPACA_API_KEY": "PKTEST",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
            "PROXY_PORT": str(self.port),
            "PROXY_TOKENS": f"{OLD},{KEPT}",
            **variables,
        }
        path = Path(self.directory, ".env")
        path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        path.chmod(0o600)

    async def start(self, *words: str, wrapper: tuple[str, ...] = ("/usr/bin/setsid",)) -> Command:
        """Run a script with `words`, by default without a controlling terminal."""
        command = self.command(*wrapper, str(SCRIPTS / words[0]), *words[1:])
        await command.says("listening on")
        await command.says("upstream is streaming")
        return command

    async def join(self, token: str) -> SocketClient:
        """Connect a client that sends a token in its auth message."""
        client = await self.connect()
        client.sendMessage(json.dumps({"action": "auth", "key": token, "secret": "x"}).encode())
        await client.has(1)
        self.assertEqual(client.taken(), [AUTHENTICATED])
        return client

    async def test_hangup_without_terminal_reloads(self) -> None:
        """The client of the removed token is closed, the other one gets the next event."""
        alpaca = await self.simulate()
        self.write()
        proxy = await self.start("twistd", "-n", "tradeproxy")
        removed, kept = await self.join(OLD), await self.join(KEPT)
        self.write(PROXY_TOKENS=KEPT)
        os.kill(proxy.pid, signal.SIGHUP)
        await removed.gone()
        reason = "this token is no longer one of this proxy's PROXY_TOKENS"
        self.assertEqual(removed.closed, (4001, reason))
        await proxy.says(f"{READ}PROXY_TOKENS")
        event = alpaca.emit({"event": "new", "order": {"id": "1"}})
        await kept.has(1)
        self.assertEqual(kept.taken(), [event])

    async def test_wrong_value_changes_nothing(self) -> None:
        """One line names it. The next reload, with a right one, works."""
        await self.simulate()
        self.write()
        proxy = await self.start("tradeproxy", "run")
        client = await self.join(OLD)
        self.write(PROXY_TOKENS=KEPT, PROXY_LOG_LEVEL="loud")
        os.kill(proxy.pid, signal.SIGHUP)
        await proxy.says("PROXY_LOG_LEVEL: 'loud' is not one of debug")
        await self.join(OLD)
        self.assertTrue(client.is_open_now)
        self.write(PROXY_LOG_LEVEL="error", PROXY_MAX_CLIENTS="7")
        os.kill(proxy.pid, signal.SIGHUP)
        await proxy.says("a restart is needed for PROXY_MAX_CLIENTS")
        await self.join(OLD)  # the reload has ended
        self.assertEqual(await proxy.stop(), -signal.SIGTERM)
        [line] = proxy.output.partition("a restart is")[2].splitlines()
        self.assertIn("PROXY_MAX_CLIENTS", line, "above the level error there is no other line")

    async def test_rotated_key_file_needs_no_restart(self) -> None:
        """A refused login reads it again, and a reload ends the wait of a minute after another."""
        alpaca = await self.simulate()
        key = Path(self.directory, "key")
        key.write_text("test-secret")
        self.write(ALPACA_SECRET_KEY="", ALPACA_SECRET_KEY_FILE="key")
        proxy = await self.start("twistd", "-n", "tradeproxy")
        key.write_text("rotated-secret")
        alpaca.inject(Fault(FaultKind.REFUSE, message="wrong key", seconds=600))
        alpaca.inject(Fault(FaultKind.DROP))
        await proxy.says("paper: the keys were replaced, as Alpaca refused the old ones")
        await proxy.says("ALPACA_API_KEY is not accepted; next attempt in 6")
        key.write_text("corrected-secret")
        alpaca.end_faults(FaultKind.REFUSE)
        os.kill(proxy.pid, signal.SIGHUP)
        await proxy.says(f"{READ}the keys of paper")
        await alpaca.when_listening()
        self.assertNotIn("-secret", proxy.output)

    async def test_hangup_with_terminal_stops(self) -> None:
        """The terminal was closed, so its user expects the end. Alpaca gets a close frame."""
        alpaca = await self.simulate()
        self.write()
        proxy = Command()
        reactor.spawnProcess(
            proxy,
            str(SCRIPTS / "twistd"),
            ["twistd", "-n", "tradeproxy"],
            env={"PATH": os.environ["PATH"], "HOME": self.directory},
            path=self.directory,
            usePTY=True,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(proxy.finish()))
        await proxy.says("upstream is streaming")
        client = await self.join(OLD)
        self.assertEqual(await proxy.stop("HUP"), 0)
        await client.gone()
        assert client.closed is not None
        self.assertEqual(client.closed[0], 1012)
        await alpaca.when_gone()
        self.assertEqual(alpaca.last_close, (1000, None))

    async def test_hangup_under_nohup_is_ignored(self) -> None:
        """It neither stops nor reloads."""
        await self.simulate()
        self.write()
        proxy = await self.start("twistd", "-n", "tradeproxy", wrapper=("/usr/bin/nohup",))
        self.write(PROXY_TOKENS=KEPT)
        os.kill(proxy.pid, signal.SIGHUP)
        await self.join(OLD)
        self.assertNotIn(READ, proxy.output)

    async def test_daemon_reloads(self) -> None:
        """It has given up its terminal. It reads the .env of the directory where it was started."""
        alpaca = await self.simulate()
        self.write()
        parent = self.command("twistd", "--pidfile=t.pid", "--logfile=t.log", "tradeproxy")
        self.assertEqual(await parent.ended, 0, parent.output)
        daemon = int(Path(self.directory, "t.pid").read_text())
        await alpaca.when_listening()
        removed = await self.join(OLD)
        self.write(PROXY_TOKENS=KEPT)
        os.kill(daemon, signal.SIGHUP)
        await removed.gone()
        kept = await self.join(KEPT)
        os.kill(daemon, signal.SIGTERM)
        await kept.gone()
        await alpaca.when_gone()
