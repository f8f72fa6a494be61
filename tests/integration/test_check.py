"""`tradeproxy check`: one line for each account, and an exit status."""

from __future__ import annotations

from tests.support.disclosure import (
    CLOSED_PORT,
    KEY,
    PASSWORD,
    SECRET,
    DisclosureTestCase,
    accounts_at,
)
from tests.support.impostors import ENDS, HANDSHAKES, impostor, parrot
from tests.support.processes import free_port
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.credentials import KeyPair, Secret

MAIN = "from tradeproxy.__main__ import main; main()"


class CheckTests(DisclosureTestCase):
    """The command as users run it before the proxy, with Autobahn logging every octet."""

    async def check(self, status: int, **ports: int) -> list[str]:
        """Check accounts at these ports of Alpaca; assert the status, return the lines."""
        environment = accounts_at(**ports) | {
            "PROXY_PORT": str(free_port()),
            "PROXY_TOKENS": PASSWORD,
        }
        command = self.debugged(MAIN, "check", **environment)
        self.assertEqual(await command.ended, status, command.output)
        self.assert_said(command)
        return command.output.splitlines()

    async def test_check_all_accounts_log_in_exits_0(self) -> None:
        """Each login is tried, and its connection is closed with 1000."""
        alpacas, ports = [], []
        for _ in range(2):
            alpacas.append(await self.simulate(credentials=KeyPair(Secret(KEY), Secret(SECRET))))
            ports.append(self.alpaca_port)
        lines = await self.check(0, A=ports[0], B=ports[1])
        self.assertIn("tokens: 1", lines)
        self.assertEqual(
            lines[-2:],
            [
                f"{n}: ws://127.0.0.1:{port}/stream: logged in"
                for n, port in zip("ab", ports, strict=True)
            ],
        )
        for alpaca in alpacas:
            await alpaca.when_gone()
            self.assertEqual(alpaca.last_close, (1000, None))

    async def test_check_reports_journal_directory(self) -> None:
        """The output has the directory, or the reason why it cannot be used."""
        lines = await self.check(1, ABSENT=CLOSED_PORT)
        self.assertIn(f"events are kept in {self.directory}/.local/state/tradeproxy", lines)
        environment = accounts_at(ABSENT=CLOSED_PORT) | {"PROXY_DATA_DIR": "/dev/null"}
        command = self.debugged(MAIN, "check", **environment)
        self.assertEqual(await command.ended, 1)
        self.assertIn(
            "PROXY_DATA_DIR: /dev/null/absent.sqlite3: /dev/null is not a directory", command.output
        )

    async def test_check_redis_hides_password(self) -> None:
        """With Redis no journal file is checked or created, even if PROXY_DATA_DIR is set."""
        environment = accounts_at(ABSENT=CLOSED_PORT) | {
            "PROXY_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/3",
            "PROXY_DATA_DIR": "/dev/null",
        }
        command = self.debugged(MAIN, "check", **environment)
        self.assertEqual(await command.ended, 1)
        self.assert_said(command)
        lines = command.output.splitlines()
        self.assertIn("events are kept in Redis at redis://127.0.0.1:1/3", lines)
        self.assertEqual([line for line in lines if "/dev/null" in line], [])

    async def test_check_failing_accounts_exits_1(self) -> None:
        """The reasons are a rejected key, a second connection, no server, and malformed replies."""
        lines = await self.check(
            1,
            REFUSED=await self.serve_fault(FaultKind.REFUSE),
            BUSY=await self.serve_fault(FaultKind.THROTTLE),
            ABSENT=CLOSED_PORT,
            PARROT=await self.serve(parrot(ENDS[0])),
            IMPOSTOR=await self.serve(impostor(HANDSHAKES[0])),
        )
        by_account = {line.partition(":")[0]: line for line in lines}
        self.assertIn(
            "login refused: ALPACA_REFUSED_API_KEY is not accepted", by_account["refused"]
        )
        self.assertIn("HTTP 429 at the handshake: another connection", by_account["busy"])
        self.assertIn("cannot connect", by_account["absent"])
        self.assertIn("login refused", by_account["parrot"])
        self.assertIn("HTTP 403", by_account["impostor"])
