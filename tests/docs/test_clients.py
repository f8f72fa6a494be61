"""Tests for docs/clients.md and docs/reverse-proxy.md: `make interop` runs what they print.

The runner copies each program and each configuration as it is, and changes no byte of it. So the
documents are true if each of their blocks is the whole of such a file.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.interop import matrix
from tests.system.interop.clients import Column, InteropClient
from tests.system.interop.driver import DRIVERS
from tests.system.interop.fronts import FRONTS
from tests.system.interop.groups import table

DOCUMENTS = ("clients.md", "reverse-proxy.md")
FENCE = "```"
BLOCK = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"yes|no\\\*|yes\\\*|n/a|not run")


def read(document: str) -> str:
    """Return the text of a document."""
    return (matrix.DOCS / document).read_text(encoding="utf-8")


def files_of(client: InteropClient) -> list[Path]:
    """Return the files that run for a client."""
    front = [FRONTS / client.front] if client.front else []
    return [DRIVERS / client.driver, *(DRIVERS / name for name in client.files), *front]


class BlockTests(SynchronousTestCase):
    """The blocks and the files."""

    def test_every_block_is_a_whole_file_that_runs(self) -> None:
        """A file without a client, and a line that is only in one of the two, are found."""
        texts = {path.read_text(encoding="utf-8") for c in table() for path in files_of(c)}
        for document in DOCUMENTS:
            for _, block in BLOCK.findall(read(document)):
                self.assertTrue(block in texts, f"{document}: no program that runs is:\n{block}")

    def test_every_fence_belongs_to_a_block(self) -> None:
        """An indented block, or one with another fence, would not be compared."""
        for document in DOCUMENTS:
            outside = BLOCK.sub("", read(document))
            self.assertNotIn(FENCE, outside, document)
            self.assertNotIn("~~~", outside, document)
            self.assertNotRegex(outside, r"\n\n    \S", document)

    def test_every_file_is_used(self) -> None:
        """A driver or a configuration without a client never runs."""
        used = {path for client in table() for path in files_of(client)}
        found = {path for folder in (DRIVERS, FRONTS) for path in folder.iterdir()}
        unused = {path.name for path in found - used if path.is_file()}
        self.assertEqual(unused, {"many_alpaca_py.py"})


class MatrixTests(SynchronousTestCase):
    """The tables and the clients."""

    def test_tables_are_those_that_the_runner_writes(self) -> None:
        """Their rows are the clients, in order; the footnotes are the clients' remarks."""
        for document in DOCUMENTS:
            text = read(document)
            clients = [c for c in table() if matrix.document(c).name == document]
            results = matrix.read_results(text)
            self.assertEqual(list(results), [matrix.first_cell(client) for client in clients])
            expected = "\n".join(matrix.table_lines(clients, results))
            found = matrix.TABLE.search(text)
            self.assertEqual(found and found[0], expected)

    def test_cells_are_results(self) -> None:
        """A starred cell has a footnote."""
        for client in table():
            results = matrix.read_results(matrix.document(client).read_text("utf-8"))
            cells = results[matrix.first_cell(client)]
            for column, cell in zip(Column, cells, strict=True):
                self.assertRegex(cell, f"^(?:{CELL.pattern})$")
                if cell != matrix.NOT_RUN:
                    self.assertEqual("*" in cell, column in client.remarks, client.name)

    def test_names_are_unique(self) -> None:
        """A row is found by its name."""
        names = [client.name for client in table()]
        self.assertEqual(len(names), len(set(names)))
