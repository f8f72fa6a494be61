"""Tests for docs/operations.md: the lines that it explains are those that the proxy writes."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import tradeproxy
from tests.support.sockets import SocketTestCase

TEXT = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
PACKAGE = Path(tradeproxy.__file__).parent

LOGGED = ("info", "warn", "error")
UNEXPLAINED = "…"
"""The warnings about the settings: they explain themselves."""


def strings() -> set[str]:
    """Return every text in the package, with `…` in the place of what is put into it."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.sub(r"\{[^}]*\}", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
                found.add("".join(map(str, parts)))
    return found


def log_lines(*levels: str) -> Iterator[str]:
    """Go through the lines of these levels that the proxy's own parts log."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=level, value=ast.Attribute(attr="_log")),
                    args=[ast.Constant(value=str(line)), *_],
                ) if level in levels:
                    yield re.sub(r"\{[^}]*\}", "…", line)


def rows(section: str) -> list[list[str]]:
    """Return the cells of every row of the tables of a section."""
    [part] = re.findall(
        rf"^##+ {re.escape(section)}\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL
    )
    lines = re.findall(r"^\| (.*) \|$", part, re.MULTILINE)
    return [line.split(" | ") for line in lines[1:]]


class LineTests(SynchronousTestCase):
    """What it says of the log and of /readyz is what they say."""

    def test_every_line_of_the_log_is_as_the_code_has_it(self) -> None:
        """With its level; and no warning, and no error, is left unexplained."""
        shown = {
            cells[1].strip("`"): cells[0] for cells in rows("The log") if cells[1].startswith("`")
        }
        for level in LOGGED:
            self.assertLessEqual(
                {line for line, at in shown.items() if at == level}, set(log_lines(level))
            )
        self.assertEqual(set(log_lines("warn", "error")) - set(shown), {UNEXPLAINED})

    def test_every_reason_is_one_that_there_is(self) -> None:
        """Of an upstream that is down, a start that fails, a client that is turned away."""
        known = strings()
        quoted = [
            quote
            for section in ("What is wrong", "The proxy does not start", "Clients are turned away")
            for cells in rows(section)
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


class BackupTests(SocketTestCase):
    """A copy of the journal, as the document says to make it and to put it back."""

    async def test_a_copy_is_made_while_the_proxy_runs_and_can_take_the_journals_place(
        self,
    ) -> None:
        """The proxy does not notice; started over the copy it asks Alpaca for what is not in it."""
        [command] = re.findall(r"\"(VACUUM INTO .*)\"$", TEXT, re.MULTILINE)
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        client = await self.subscribe()
        data = [
            {"event_id": f"01KYA98DWAS5PA5B000000000{n}", "event": "new", "order": {"id": f"{n}"}}
            for n in range(3)
        ]
        first = alpaca.emit(data[0])
        await client.has(1)
        journal = Path(self.directory, ".local/state/tradeproxy/paper.sqlite3")
        copy = Path(self.directory, "copy.sqlite3")
        with closing(sqlite3.connect(journal)) as reader:
            reader.execute(re.sub("'.*'", f"'{copy}'", command))
        second = alpaca.emit(data[1])
        await client.has(2)
        self.assertEqual(client.taken(), [first, second])
        await proxy.stop()
        self.assertNotIn("without being on the disk", proxy.output)

        for left_over in ("-wal", "-shm"):
            journal.with_name(f"{journal.name}{left_over}").unlink(missing_ok=True)
        copy.replace(journal)
        proxy = await self.proxy()
        await proxy.says("recovery ended: recovered")
        back = await self.subscribe(f"/trade-updates-paper?since_id={data[0]['event_id']}")
        await back.has(1)
        third = alpaca.emit(data[2])
        await back.has(2)
        self.assertEqual(back.taken(), [second, third])
