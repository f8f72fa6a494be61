"""The limit of open files."""

from __future__ import annotations

import sys

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.support.processes import SOURCES

PROGRAM = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from tradeproxy.process import make_room_for
soft, hard, clients = map(int, sys.argv[2:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(make_room_for(clients), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


class OpenFilesTests(TestCase):
    """In a process of its own, since a hard limit cannot be raised again."""

    async def limited(self, soft: int, hard: int, clients: int) -> str:
        arguments = ["-c", PROGRAM, str(SOURCES), str(soft), str(hard), str(clients)]
        output, error, status = await getProcessOutputAndValue(sys.executable, arguments)
        self.assertEqual((error, status), (b"", 0))
        return str(output, "ascii").strip()

    async def test_is_raised_as_far_as_needed(self) -> None:
        """A soft limit is no reason to turn the 1,000th client away."""
        self.assertEqual(await self.limited(256, 4096, clients=1000), "None (1064, 4096)")

    async def test_is_left_alone_when_high_enough(self) -> None:
        """It is never lowered."""
        self.assertEqual(await self.limited(2048, 4096, clients=1000), "None (2048, 4096)")

    async def test_a_hard_limit_that_is_too_low_is_told(self) -> None:
        """All of it is used, and the line names the setting."""
        answer = await self.limited(256, 512, clients=1000)
        self.assertTrue(answer.startswith("PROXY_MAX_CLIENTS: 1000 clients need 1064 open files"), answer)
        self.assertTrue(answer.endswith("(512, 512)"), answer)
