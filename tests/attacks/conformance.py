"""The short form of `make conformance`: with one large message, and without compression."""

from __future__ import annotations

from tests.support.sockets import SocketTestCase
from tests.system.conformance import ACCEPTED, run_cases


class ConformanceTests(SocketTestCase):
    """The proxy's WebSocket server, with its changes to Autobahn, follows RFC 6455."""

    async def test_conformance_every_case_passes(self) -> None:
        """Framing, pings, reserved bits, opcodes, fragmentation, UTF-8 and closing."""
        await self.check(tls=False)

    async def test_conformance_over_tls_every_case_passes(self) -> None:
        """The same over TLS, which has a direct write of its own."""
        await self.check(tls=True)

    async def test_conformance_largest_message_passes(self) -> None:
        """16 MiB come back: more than sockets without a login may send."""
        self.assertEqual(await run_cases(self.make_directory(), "9.2.6"), {"9.2.6": "OK"})

    async def check(self, *, tls: bool) -> None:
        verdicts = await run_cases(self.make_directory(), "[1-7].*", tls=tls)
        self.assertGreater(len(verdicts), 200)
        self.assertEqual(
            [case for case, verdict in verdicts.items() if verdict not in ACCEPTED], []
        )
        self.assertNotIn("UNIMPLEMENTED", verdicts.values())
