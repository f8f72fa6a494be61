"""Tests for docs/operations.md: the log lines and reasons that it quotes exist in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import tradeproxy

TEXT = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
PACKAGE = Path(tradeproxy.__file__).parent

LOGGED = ("info", "warn", "error")
UNEXPLAINED = "…"
"""The log line that passes on a warning about the settings. The warning is the explanation."""


@cache
def parse_package() -> dict[str, ast.Module]:
    """Return the tree of each module's source, by the source."""
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    return {source: ast.parse(source) for source in sources}


def collect_strings() -> set[str]:
    """Return every string in the package, with `…` for each placeholder."""
    found = set()
    for tree in parse_package().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.sub(r"\{[^}]*\}", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
                found.add("".join(map(str, parts)))
    return found


def find_log_lines(*levels: str) -> Iterator[str]:
    """Yield the format of each call of `self._log` with one of these levels."""
    for source, tree in parse_package().items():
        account = "…: " if "AccountLogger(self" in source else ""
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=level, value=ast.Attribute(attr="_log")),
                    args=[ast.Constant(value=str(line)), *_],
                ) if level in levels:
                    yield account + re.sub(r"\{[^}]*\}", "…", line)


def read_rows(section: str) -> list[list[str]]:
    """Return the cells of each row of the tables in a section, without the first header."""
    [part] = re.findall(
        rf"^##+ {re.escape(section)}\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL
    )
    lines = re.findall(r"^\| (.*) \|$", part, re.MULTILINE)
    return [line.split(" | ") for line in lines[1:]]


class OperationsTableTests(SynchronousTestCase):
    """The quotes from the log and from /readyz."""

    def test_log_lines_are_the_codes(self) -> None:
        """Each documented line exists with its level; each warning and error is documented."""
        documented = {
            cells[1].strip("`"): cells[0]
            for cells in read_rows("The log")
            if cells[1].startswith("`")
        }
        for level in LOGGED:
            self.assertLessEqual(
                {line for line, cell in documented.items() if cell == level},
                set(find_log_lines(level)),
            )
        self.assertEqual(set(find_log_lines("warn", "error")) - set(documented), {UNEXPLAINED})

    def test_reasons_are_the_codes(self) -> None:
        """They are for an upstream that is down, a failed start and a rejected client."""
        known = collect_strings()
        quoted = [
            quote
            for section in ("What is wrong", "The proxy does not start", "Clients are turned away")
            for cells in read_rows(section)
            for quote in re.findall(r"`([^`]+)`", cells[0])
        ]
        self.assertGreater(len(quoted), 20)
        unknown = [
            piece
            for quote in quoted
            for piece in re.split("…|: ", re.sub(r"HTTP \w+", "HTTP …", quote))
            if not any(piece.strip() in text for text in known)
        ]
        self.assertEqual(unknown, [])
