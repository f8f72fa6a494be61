"""Tests for tradeproxy.runtime.rlimits."""

from __future__ import annotations

import sys

from twisted.trial.unittest import TestCase

from tests.support.processes import run

PROGRAM = """
import resource
from tradeproxy.runtime.rlimits import raise_file_limit
for soft, hard in (2048, 4096), (256, 4096), (256, 512):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(raise_file_limit(1000), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


class OpenFilesTests(TestCase):
    """Runs in a separate process, because a hard limit cannot be raised again."""

    async def test_limit_is_raised_as_needed_up_to_hard_limit(self) -> None:
        """It is never lowered. If the hard limit is too low, all of it is used, with a warning."""
        command = run(sys.executable, "-c", PROGRAM, directory=".")
        self.assertEqual(await command.ended, 0, command.output)
        high_enough, raised, too_low = command.output.splitlines()
        self.assertEqual(high_enough, "None (2048, 4096)")
        self.assertEqual(raised, "None (1064, 4096)")
        self.assertTrue(
            too_low.startswith("PROXY_MAX_CLIENTS: 1000 needs 1064 open files"), too_low
        )
        self.assertTrue(too_low.endswith("(512, 512)"), too_low)


CORE_PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
from tradeproxy.runtime.rlimits import forbid_core_dumps, restore_core_dumps
for change in forbid_core_dumps, forbid_core_dumps, restore_core_dumps:
    print(change(), resource.getrlimit(resource.RLIMIT_CORE))
resource.setrlimit = lambda *_: (_ for _ in ()).throw(ValueError("not allowed"))
print(forbid_core_dumps())
"""


class CoreDumpTests(TestCase):
    """Runs in a separate process, whose limit is changed."""

    async def test_core_dumps_are_forbidden_and_restored(self) -> None:
        """The limit returns to what it was at the start. A filter of system calls is no traceback.

        The filter is simulated: systemd's answers setrlimit with EPERM.
        """
        command = run(sys.executable, "-c", CORE_PROGRAM, directory=".")
        self.assertEqual(await command.ended, 0, command.output)
        *limits, refused = command.output.splitlines()
        self.assertEqual(limits, ["None (0, 8192)", "None (0, 8192)", "None (4096, 8192)"])
        self.assertTrue(refused.startswith("PROXY_CORE_DUMPS: "), refused)
