"""Words: one name for one thing, lines that fit, and plain English."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
COLUMNS = 100

PHRASES = (
    r"to be had",
    r"\b(is|are|was|were|be|been|being) told\b",
    r"\btold of\b",
    r"\ball the same\b",
    r"\bwhoever\b",
    r"\bnobody\b",
    r"\bgoodbyes?\b",
    r"\blets? go\b",
    r"\bfarewell\b",
    r"\bin (its|their|his) stead\b",
    r"\btak(e|es|ing) note\b",
    r"\bin as far as\b",
    r"\bthereby\b",
    r"\bfor want of\b",
    r"\banew\b",
    r"\b(is|are|was) owed\b|\bowes\b",
    r"\bnewcomers?\b",
    r"\bcrowds?\b",
    r"\bat the door\b",
    r"\blast words?\b",
    r"\bin the place of\b",
    r"\bhas its say\b",
    r"\bis of no use\b",
    r"\bshall\b",
)
"""Each of them was in the code, and made a sentence that needs a second reading."""


def list_files() -> list[Path]:
    """Return the package's modules and scripts, the docs, and the README."""
    package = [
        path
        for path in sorted((ROOT / "tradeproxy").rglob("*"))
        if path.suffix in (".lua", ".py", ".sql")
    ]
    return [*package, *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def list_lines() -> list[tuple[str, str]]:
    """Return every line of those files with its place; rows of Markdown tables are left out."""
    return [
        (f"{path.relative_to(ROOT)}:{number}", line)
        for path in list_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if path.suffix != ".md" or not line.lstrip().startswith("|")
    ]


class WordTests(SynchronousTestCase):
    """The package and the docs keep to the rules of docs/architecture.md."""

    def test_class_names_are_defined_once(self) -> None:
        """A name with two meanings has to be looked up; a leading underscore is ignored."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted((ROOT / "tradeproxy").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found[node.name.removeprefix("_")].append(path.name)
        self.assertEqual({name: places for name, places in found.items() if len(places) > 1}, {})

    def test_lines_have_at_most_100_columns(self) -> None:
        """So that two files fit beside each other; rows of tables are exempt."""
        self.assertEqual([place for place, line in list_lines() if len(line) > COLUMNS], [])

    def test_listed_phrases_do_not_come_back(self) -> None:
        """They personify programs, or are no longer common English."""
        pattern = re.compile("|".join(f"(?:{phrase})" for phrase in PHRASES), re.IGNORECASE)
        found = [
            (place, match[0]) for place, line in list_lines() if (match := pattern.search(line))
        ]
        self.assertEqual(found, [])
