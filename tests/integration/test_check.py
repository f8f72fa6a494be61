"""`tradeproxy check`: a line for each account, and whether all is well as the exit status."""

from __future__ import annotations

from tests.support.disclosure import KEY, NOBODY, PASSWORD, SECRET, DisclosureTestCase, accounts_at
from tests.support.impostors import ENDS, HANDSHAKES, impostor, parrot
from tests.support.processes import free_port
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.credentials import KeyPair, Secret

MAIN = "from tradeproxy.__main__ import main; main()"


class CheckTests(DisclosureTestCase):
    """As people run it before they start the proxy, with Autobahn told to show every octet."""

    async def check(self, status: int, **ports: int) -> list[str]:
        """Check accounts by the ports of their Alpacas, and return its lines, in which no secret is."""
        environment = accounts_at(**ports) | {
            "PROXY_PORT": str(free_port()),
            "PROXY_TOKENS": PASSWORD,
        }
        command = self.debugged(MAIN, "check", **environment)
        self.assertEqual(await command.ended, status, command.output)
        self.assert_said(command)
        return command.output.splitlines()

    async def test_all_is_well(self) -> None:
        """Each account's login is tried, and left in an orderly way."""
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

    async def test_looks_at_the_journals_too(self) -> None:
        """Where they are, and why they could not be there."""
        lines = await self.check(1, NOBODY=NOBODY)
        self.assertIn(f"events are kept in {self.directory}/.local/state/tradeproxy", lines)
        environment = accounts_at(NOBODY=NOBODY) | {"PROXY_DATA_DIR": "/dev/null"}
        command = self.debugged(MAIN, "check", **environment)
        self.assertEqual(await command.ended, 1)
        self.assertIn(
            "PROXY_DATA_DIR: /dev/null/nobody.sqlite3: /dev/null is not a directory", command.output
        )

    async def test_a_log_in_redis_is_told_without_its_password(self) -> None:
        """No file is looked at, nor made, though one is set."""
        environment = accounts_at(NOBODY=NOBODY) | {
            "PROXY_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/3",
            "PROXY_DATA_DIR": "/dev/null",
        }
        command = self.debugged(MAIN, "check", **environment)
        self.assertEqual(await command.ended, 1)
        self.assert_said(command)
        lines = command.output.splitlines()
        self.assertIn("events are kept in Redis at redis://127.0.0.1:1/3", lines)
        self.assertEqual([line for line in lines if "/dev/null" in line], [])

    async def test_says_what_is_wrong(self) -> None:
        """A refused key by its variable, another connection, an address where nobody is, one that babbles."""
        lines = await self.check(
            1,
            REFUSED=await self.serve_fault(FaultKind.REFUSE),
            BUSY=await self.serve_fault(FaultKind.THROTTLE),
            NOBODY=NOBODY,
            PARROT=await self.serve(parrot(ENDS[0])),
            IMPOSTOR=await self.serve(impostor(HANDSHAKES[0])),
        )
        said = {line.partition(":")[0]: line for line in lines}
        self.assertIn("login refused: ALPACA_REFUSED_API_KEY is not accepted", said["refused"])
        self.assertIn("HTTP 429 at the handshake: another connection", said["busy"])
        self.assertIn("cannot connect", said["nobody"])
        self.assertIn("login refused", said["parrot"])
        self.assertIn("HTTP 403", said["impostor"])
