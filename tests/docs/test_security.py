"""docs/security.md states the bounds that the code has."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.settings import Limits

TEXT = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| [^|]+ \| ([0-9]+) \| `([a-z_.]+):([A-Za-z_.]+)` \|$", re.MULTILINE)


def find_value(module: str, name: str) -> Any:
    """Return a constant of a module, or a default of a class in it."""
    if name.startswith("Limits."):
        return getattr(Limits(), name.partition(".")[2])
    value: Any = import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


class SecurityDocTests(SynchronousTestCase):
    """An operator can rely on the table."""

    def test_every_bound_equals_its_constant(self) -> None:
        """A bound that is changed, or removed, takes its row along."""
        rows = ROW.findall(TEXT)
        table = TEXT.partition("| input | bound |")[2].partition("\n\n")[0].splitlines()
        self.assertEqual(len(rows), len(table) - 2)
        stated = {f"{module}:{name}": int(bound) for bound, module, name in rows}
        actual = {f"{module}:{name}": find_value(module, name) for _, module, name in rows}
        self.assertEqual(stated, actual)
