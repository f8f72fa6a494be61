"""The short form of `make conformance`: all but its large messages and compression, which is not offered."""

from __future__ import annotations

from tests.support.sockets import SocketTestCase
from tests.system.conformance import GOOD, run_cases


class ConformanceTests(SocketTestCase):
    """Our connections, with all that is done without, still speak WebSocket."""

    async def test_every_case_is_as_it_should_be(self) -> None:
        """Framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing."""
        verdicts = await run_cases(self.make_directory(), "[1-7].*")
        self.assertGreater(len(verdicts), 200)
        self.assertEqual([case for case, verdict in verdicts.items() if verdict not in GOOD], [])
        self.assertNotIn("UNIMPLEMENTED", verdicts.values())
