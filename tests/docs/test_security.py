"""docs/security.md states the bounds that the code has, all of them."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

import tradeproxy
from tradeproxy.config.settings import Limits

TEXT = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
NAME = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+):([A-Za-z_.]+)`")
CONSTANT = re.compile(r"^(MAX_[A-Z_]+)\b.* = ", re.MULTILINE)

OTHERS = {
    # Bounds of what we choose ourselves, not of what comes from outside.
    "tradeproxy.book.builder:MAX_STEP",
    "tradeproxy.book.fill_store:MAX_CACHED",
    "tradeproxy.book.reader:MAX_EXAMINED",
    "tradeproxy.book.reader:MAX_FOUND",
    "tradeproxy.book.snapshot:MAX_STEP",
    "tradeproxy.book.state:MAX_FILLS",
    "tradeproxy.cli.state:MAX_LIMIT",
    "tradeproxy.cli.state:MAX_PAGES",
    "tradeproxy.cli.state_output:MAX_ID",
    "tradeproxy.cli.status:MAX_GAPS",
    "tradeproxy.cli.strategies:MAX_NAME",
    "tradeproxy.cli.strategies:MAX_PAGES",
    "tradeproxy.cli.tail:MAX_REPLAY",
    "tradeproxy.client.base:MAX_CEILING",
    "tradeproxy.cluster.missing_positions:MAX_POSITIONS",
    "tradeproxy.cluster.redis_log:MAX_DELIVERED",
    "tradeproxy.downstream.send_group:MAX_DIRECT_BYTES",
    "tradeproxy.downstream.send_group:MAX_GROUP_SIZE",
    "tradeproxy.downstream.direct_write:MAX_PLAINTEXT",
    "tradeproxy.journal.base:MAX_DEVIATION",
    "tradeproxy.journal.spool:MAX_ROWS",
    "tradeproxy.journal.spool:MAX_SIZE",
    "tradeproxy.journal.sqlite:MAX_SPOOLED",
    "tradeproxy.journal.stored_keys:MAX_STEP",
    "tradeproxy.journal.upgrade:MAX_STEP",
    "tradeproxy.journal.wal_checkpoints:MAX_PAGES",
    "tradeproxy.recovery.book_seed:MAX_NAMED",
    "tradeproxy.tradelog.day_files:MAX_ENDS",
    "tradeproxy.tradelog.day_files:MAX_SEARCHED",
    "tradeproxy.tradelog.service:MAX_ROUND",
    "tradeproxy.recovery.open_orders:MAX_REQUESTS",
    "tradeproxy.runtime.gc_service:MAX_WAIT",
    "tradeproxy.runtime.gc_service:MAX_WAIT_UNGROWN",
    "tradeproxy.upstream.backoff:MAX_CEILING",
    "tradeproxy.upstream.rate_limiter:MAX_REQUESTS",
    "tradeproxy.web.status:MAX_AGE",
    "tradeproxy.wire.event:MAX_TIME",
}


class Row(NamedTuple):
    """A row of the table of bounds."""

    bound: str
    value: str
    where: str
    effect: str


def read_rows() -> list[Row]:
    """Return the rows of the table, without the headings in it."""
    table = TEXT.partition("| bound | value | where | effect |\n|---|---|---|---|\n")[2]
    lines = table.partition("\n\n")[0].splitlines()
    rows = [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]
    return [row for row in rows if row.value]


def find_value(module: str, name: str) -> Any:
    """Return a constant of a module, or a default of a class in it."""
    if name.startswith("Limits."):
        return getattr(Limits(), name.partition(".")[2])
    value: Any = import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def list_constants() -> set[str]:
    """Return `module:name` of every constant of the package that is named as a maximum."""
    root = Path(tradeproxy.__file__).parent
    return {
        f"tradeproxy.{'.'.join(path.relative_to(root).with_suffix('').parts)}:{name}"
        for path in root.rglob("*.py")
        for name in CONSTANT.findall(path.read_text(encoding="utf-8"))
    }


class SecurityDocTests(SynchronousTestCase):
    """An operator can rely on the table."""

    def test_every_bound_equals_its_constant(self) -> None:
        """A bound that is changed, renamed or removed takes its row along.

        A value that is not a plain number, or a place that is not one constant, is for readers; but
        what is named exists.
        """
        rows = read_rows()
        self.assertGreater(len(rows), 40)
        for row in rows:
            values = [find_value(module, name) for module, name in NAME.findall(row.where)]
            if row.value.isdigit() and len(values) == 1 and isinstance(values[0], int | float):
                self.assertEqual(int(row.value), values[0], row.bound)

    def test_every_row_has_a_place_and_an_effect(self) -> None:
        """A bound without an effect is no use to an operator."""
        for row in read_rows():
            self.assertTrue(row.where and row.effect, row)

    def test_every_maximum_of_the_code_has_a_row(self) -> None:
        """A new bound is documented, or is listed here as one of our own choices."""
        stated = {f"{module}:{name}" for module, name in NAME.findall(TEXT)}
        self.assertEqual(sorted(list_constants() - stated - OTHERS), [])
        self.assertEqual(sorted(OTHERS - list_constants()), [])
