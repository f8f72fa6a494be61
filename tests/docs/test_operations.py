"""Tests for docs/operations.md: the log lines and reasons that it quotes exist in the code."""

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
"""The log line that passes on a warning about the settings. The warning is the explanation."""


def collect_strings() -> set[str]:
    """Return every string in the package, with `…` for each placeholder."""
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


def find_log_lines(*levels: str) -> Iterator[str]:
    """Yield the format of each call of `self._log` with one of these levels."""
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        account = "…: " if "AccountLogger(self" in source else ""
        for node in ast.walk(ast.parse(source)):
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


class BackupTests(SocketTestCase):
    """The documented way to copy and restore the journal."""

    async def test_copy_of_open_journal_can_be_restored(self) -> None:
        """The copy does not disturb the proxy. After the restore, a backfill finds newer events."""
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
