"""Tests for the import of tradeproxy.client, in processes of their own."""

from __future__ import annotations

import sys

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.support.processes import SOURCES

URL = "ws://localhost:8099/trade-updates-paper"

HIDE = "import sys; sys.modules.update(dict.fromkeys(('fcntl', 'resource', 'pwd', 'grp')));"
"""An import of these modules fails after it, as on systems other than POSIX."""


class ImportTests(TestCase):
    """A bot may run on another system than the proxy."""

    async def run_hiding(self, program: str) -> str:
        """Return the output of a program that cannot import POSIX modules."""
        output, errors, status = await getProcessOutputAndValue(
            sys.executable, ["-c", f"{HIDE} {program}"], env={"PYTHONPATH": str(SOURCES)}
        )
        self.assertEqual(status, 0, errors.decode())
        text: str = output.decode().strip()
        return text

    async def test_asyncio_client_needs_no_posix_modules(self) -> None:
        """The client is built with a position."""
        program = f"from tradeproxy.client.aio import Client; print(Client({URL!r}, since_id='a'))"
        self.assertEqual(await self.run_hiding(program), f"<Client {URL} at a>")

    async def test_twisted_client_needs_no_posix_modules(self) -> None:
        """Twisted's reactors for POSIX cannot be loaded then, so a clock replaces it."""
        program = (
            "from tradeproxy.client import Client; from twisted.internet.task import Clock;"
            f"print(Client({URL!r}, since_id='a', reactor=Clock()))"
        )
        self.assertEqual(await self.run_hiding(program), f"<Client {URL} at a>")

    async def test_hidden_modules_cannot_be_imported(self) -> None:
        """Otherwise the other test proves nothing: the journal needs one of them."""
        program = (
            "import importlib\n"
            "try: importlib.import_module('tradeproxy.journal.file')\n"
            "except ImportError as error: print(error.name)"
        )
        self.assertEqual(await self.run_hiding(f"\n{program}"), "fcntl")
