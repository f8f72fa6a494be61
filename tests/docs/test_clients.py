"""Tests for docs/clients.md: its code is that of the drivers that `make interop` runs."""

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
"""The lines between a comment with `snippet:` and one with `snippet end`."""


def find_snippets(driver: Path) -> list[str]:
    """Return the parts of a driver that the document shows."""
    return [part.strip("\n") for part in SNIPPET.findall(driver.read_text(encoding="utf-8"))]


class ClientsTests(SynchronousTestCase):
    """The snippets and the drivers."""

    def test_snippets_are_shown_verbatim(self) -> None:
        """All parts of a driver are in one block, in order."""
        for driver in sorted(DRIVERS.iterdir()):
            if parts := find_snippets(driver) if driver.is_file() else []:
                pattern = ".*".join(re.escape(part) for part in parts)
                found = [block for block in BLOCKS if re.search(pattern, block, re.DOTALL)]
                self.assertTrue(found, f"docs/clients.md does not show {driver.name} as it is")

    def test_every_client_is_documented(self) -> None:
        """The text has its name and version; a snippet has the documented address."""
        for client in table():
            self.assertTrue(client.name in TEXT, client.name)
            if client.driver_has_snippet:
                parts = find_snippets(DRIVERS / client.driver)
                self.assertTrue(parts, f"{client.driver} has no snippet")
                self.assertIn("localhost:8099", "".join(parts), client.driver)

    def test_addresses_have_the_documented_port(self) -> None:
        """The runner replaces only this port."""
        for block in BLOCKS:
            for port in re.findall(r"localhost:([0-9]+)", block):
                self.assertEqual(port, "8099")
