"""Tests for docs/clients.md: its code is that of the drivers which `make interop` runs."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.interop.__main__ import table

TESTS = Path(__file__).parents[1]
DRIVERS = TESTS / "system/interop/drivers"
TEXT = (TESTS.parent / "docs/clients.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```[a-z]+\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)

SNIPPET = re.compile(
    r"^[^\n]*\bsnippet:[^\n]*\n(.*?)\n[^\n]*\bsnippet end\b", re.MULTILINE | re.DOTALL
)
"""From the line behind a comment that says `snippet:` to the line before one that says `snippet end`."""


def snippets(driver: Path) -> list[str]:
    """Return the parts of a driver that are shown."""
    return [part.strip("\n") for part in SNIPPET.findall(driver.read_text(encoding="utf-8"))]


class ClientsTests(SynchronousTestCase):
    """What is shown, and what is run."""

    def test_every_snippet_is_shown_word_for_word(self) -> None:
        """All the parts of a driver, in their order, in one block."""
        for driver in sorted(DRIVERS.iterdir()):
            if parts := snippets(driver) if driver.is_file() else []:
                pattern = ".*".join(re.escape(part) for part in parts)
                shown = [block for block in BLOCKS if re.search(pattern, block, re.DOTALL)]
                self.assertTrue(shown, f"docs/clients.md does not show {driver.name} as it is")

    def test_every_client_that_is_run_is_shown(self) -> None:
        """By its driver's snippet, which has the documented address, and by its name and version."""
        for client in table():
            self.assertTrue(client.name in TEXT, client.name)
            if client.driver_has_snippet:
                parts = snippets(DRIVERS / client.driver)
                self.assertTrue(parts, f"{client.driver} has no snippet")
                self.assertIn("localhost:8099", "".join(parts), client.driver)

    def test_every_address_is_the_documented_one(self) -> None:
        """No block has another port, which the runner would not replace."""
        for block in BLOCKS:
            for port in re.findall(r"localhost:([0-9]+)", block):
                self.assertEqual(port, "8099")
