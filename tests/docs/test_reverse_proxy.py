"""docs/reverse-proxy.md prints the configurations that the tests run."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ROOT / "tests/system/interop/configurations"


class ConfigurationTests(SynchronousTestCase):
    """A reader copies a configuration from the page."""

    def test_printed_configurations_are_those_that_run(self) -> None:
        """`make interop` and tests/integration run the files."""
        text = (ROOT / "docs/reverse-proxy.md").read_text(encoding="utf-8")
        printed = re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        files = [path.read_text(encoding="utf-8") for path in CONFIGURATIONS.iterdir()]
        self.assertEqual(sorted(printed), sorted(files))
