"""The rooms of the package and their imports: docs/architecture.md is what the code is."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[1]
DRAWING = ROOT / "docs/architecture.md"

ROOT_MODULES = {"__init__", "__main__", "logs", "service", "tap"}

NETWORK = ("twisted", "autobahn", "txaio")
AMBIENT = ("os", "time", "random")

PURE = (
    "tradeproxy.wire",
    "tradeproxy.query",
    "tradeproxy.client.resume",
    "tradeproxy.client.aio",
    "tradeproxy.config.setting",
    "tradeproxy.journal.backlog",
    "tradeproxy.journal.metadata",
    "tradeproxy.runtime.stats",
    "tradeproxy.hub.replication",
    "tradeproxy.book.fields",
    "tradeproxy.book.orders",
    "tradeproxy.book.positions",
    "tradeproxy.book.state",
    "tradeproxy.upstream.session",
    "tradeproxy.upstream.backoff",
    "tradeproxy.recovery.sse_parser",
    "tradeproxy.recovery.reconcile",
    "tradeproxy.recovery.delivered",
    "tradeproxy.downstream.session",
    "tradeproxy.downstream.admission",
    "tradeproxy.downstream.encoder",
    "tradeproxy.tradelog.columns",
    "tradeproxy.tradelog.csv_text",
    "tradeproxy.tradelog.lines",
    "tradeproxy.web.routes",
    "tradeproxy.webhooks.formats",
    "tradeproxy.webhooks.message",
    "tradeproxy.webhooks.positions",
    "tradeproxy.webhooks.retry",
    "tradeproxy.webhooks.signature",
    "tradeproxy.webhooks.state",
    "tradeproxy.webhooks.watch",
)
"""Modules with a name that begins so are values in, values out: no network, no clock."""

BANS = {
    # A module whose name begins with the left side imports none of the libraries on the right.
    **dict.fromkeys(PURE, NETWORK + AMBIENT),
    "tradeproxy.client.base": (*NETWORK, "os", "time"),
}

MONOPOLIES = {
    # Only modules whose names begin with one on the right import the library on the left.
    "prometheus_client": ("tradeproxy.web.metrics",),
    "txredisapi": ("tradeproxy.cluster.redis_client", "tradeproxy.cluster.redis_replies"),
    "shtab": ("tradeproxy.__main__",),
    "apprise": ("tradeproxy.webhooks.apprise_sender",),
    # Twisted's check accepts some certificates of other hosts.
    "twisted.internet.ssl.optionsForClientTLS": ("tradeproxy.runtime.server_identity",),
    "websockets": ("tradeproxy.client.aio",),
    "re2": ("tradeproxy.wire.strategy_rule",),
    "msgspec": (
        "tradeproxy.wire",
        "tradeproxy.journal",
        "tradeproxy.book",
        "tradeproxy.hub.replication",
        "tradeproxy.recovery.found",
        "tradeproxy.recovery.open_orders",
        "tradeproxy.upstream.rest",
        "tradeproxy.simulator.faults",
    ),
    "autobahn": (
        "tradeproxy.client.tx",
        "tradeproxy.upstream.client",
        "tradeproxy.upstream.whole_frames",
        "tradeproxy.downstream.connection",
        "tradeproxy.downstream.autobahn_slim",
        "tradeproxy.downstream.factory",
        "tradeproxy.simulator",
    ),
    "txaio": (
        "tradeproxy.client.tx",
        "tradeproxy.upstream.client",
        "tradeproxy.downstream.connection",
        "tradeproxy.simulator",
    ),
}


@dataclass(frozen=True, slots=True)
class Module:
    """One module's name and source."""

    name: str
    source: str
    is_package: bool = False

    @property
    def room(self) -> str:
        """The folder in the package; a module in the package root is a room of its own."""
        return self.name.split(".")[1]


@cache
def read_modules(package: str) -> list[Module]:
    """Return every module of a package but the package itself."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        # An environment beside the sources, such as .venv, is left out.
        if not all(map(str.isidentifier, parts)):
            continue
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        if "." in name:
            found.append(Module(name, path.read_text(encoding="utf-8"), is_package))
    return found


def is_within(name: str, prefix: str) -> bool:
    """Tell whether a dotted name is `prefix` or beneath it."""
    return name == prefix or name.startswith(f"{prefix}.")


@cache
def list_imports(module: Module) -> tuple[str, ...]:
    """Return the dotted names that a module imports, in functions and for types too.

    `from a import b` yields a.b, which is beneath a whether b is a module or not.
    """
    found: list[str] = []
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.name.split(".")
                kept = len(parts) - node.level + module.is_package
                base = ".".join([*parts[:kept], *filter(None, [node.module])])
            found += (f"{base}.{alias.name}" for alias in node.names)
    return tuple(found)


def graph_of_files(modules: Iterable[Module]) -> dict[str, set[str]]:
    """Return which of these modules each module imports, by name."""
    modules = list(modules)
    names = {module.name for module in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        targets = (
            name if name in names else name.rpartition(".")[0] for name in list_imports(module)
        )
        graph[module.name] = {name for name in targets if name in names} - {module.name}
    return graph


def graph_of_rooms(modules: Iterable[Module]) -> dict[str, set[str]]:
    """Return which rooms each room imports."""
    rooms: dict[str, set[str]] = {}
    for module in modules:
        arrows = rooms.setdefault(module.room, set())
        for name in list_imports(module):
            if is_within(name, "tradeproxy") and name.count("."):
                arrows.add(name.split(".")[1])
        arrows.discard(module.room)
    return rooms


def find_reached_parts(module: Module) -> list[str]:
    """Return a line for every use of an account's journal or gaps, which are the hub's."""
    return [
        f"{module.name}:{node.lineno} uses {ast.unparse(node)}"
        for node in ast.walk(ast.parse(module.source))
        if isinstance(node, ast.Attribute)
        and node.attr in ("journal", "gaps")
        and ast.unparse(node.value).endswith("account")
    ]


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of one import cycle; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def read_drawing() -> tuple[dict[str, int], dict[str, set[str]]]:
    """Return each room's floor, and the rooms that it imports, from docs/architecture.md."""
    floors: dict[str, int] = {}
    arrows: dict[str, set[str]] = {}
    for line in DRAWING.read_text(encoding="utf-8").splitlines():
        if floor := re.fullmatch(r"\| (\d+) \| (.+) \|", line):
            floors.update(dict.fromkeys(re.findall(r"`(\w+)`", floor[2]), int(floor[1])))
        elif row := re.fullmatch(r"\| `(\w+)` \| [^|]+ \| ((?:`\w+`(?:, )?)+|none) \|", line):
            arrows[row[1]] = set(re.findall(r"`(\w+)`", row[2]))
    return floors, arrows


def find_violations(module: Module) -> list[str]:
    """Return a line for every import of a library that the module must not import."""
    return [
        f"{module.name} imports {name}: {rule}"
        for name in list_imports(module)
        for rule in _broken_rules(module.name, name)
    ]


def _broken_rules(importer: str, imported: str) -> Iterator[str]:
    for prefix, libraries in BANS.items():
        if is_within(importer, prefix) and any(is_within(imported, each) for each in libraries):
            yield f"{prefix} is pure"
    for library, owners in MONOPOLIES.items():
        if is_within(imported, library) and not any(is_within(importer, each) for each in owners):
            yield f"{library} is not for this module"


class DrawingTests(SynchronousTestCase):
    """The drawing in docs/architecture.md is the structure of the code."""

    def test_arrows_of_drawing_equal_imports(self) -> None:
        """Each row of the table names exactly the rooms that the room imports."""
        _, arrows = read_drawing()
        self.assertEqual(arrows, graph_of_rooms(read_modules("tradeproxy")))

    def test_arrows_point_down(self) -> None:
        """A room imports only rooms of lower floors."""
        floors, arrows = read_drawing()
        self.assertEqual(set(floors), set(arrows))
        upward = [
            f"{room} -> {target}"
            for room, targets in arrows.items()
            for target in targets
            if floors[target] >= floors[room]
        ]
        self.assertEqual(upward, [])

    def test_package_root_holds_five_modules(self) -> None:
        """Every other module has a room."""
        found = {path.stem for path in (ROOT / "tradeproxy").glob("*.py")}
        self.assertEqual(found, ROOT_MODULES)

    def test_files_named_in_text_exist(self) -> None:
        """A file that is moved takes its place in the text along."""
        text = DRAWING.read_text(encoding="utf-8")
        names = re.findall(r"`([a-z_]+/[a-z_/]+\.(?:py|js))`", text)
        self.assertGreater(len(names), 30)
        missing = [
            name
            for name in names
            if not any((ROOT / top / name).exists() for top in ("", "tradeproxy"))
        ]
        self.assertEqual(missing, [])


class CycleTests(SynchronousTestCase):
    """No two modules import each other, directly or through others, not even for types."""

    def test_package_has_no_import_cycle(self) -> None:
        """The package's files can be read from the bottom up."""
        self.assertEqual(find_cycle(graph_of_files(read_modules("tradeproxy"))), [])

    def test_benchmarks_have_no_import_cycle(self) -> None:
        """The same holds for the benchmarks."""
        self.assertEqual(find_cycle(graph_of_files(read_modules("benchmarks"))), [])

    def test_cycle_is_found(self) -> None:
        """An import for types in a function closes a cycle too."""
        modules = [
            Module("tradeproxy.a", "def f():\n    from tradeproxy.b import g"),
            Module("tradeproxy.b", "from tradeproxy import a"),
        ]
        self.assertEqual(set(find_cycle(graph_of_files(modules))), {"tradeproxy.a", "tradeproxy.b"})


class AccountTests(SynchronousTestCase):
    """Only the hub writes into the parts of an account. Others read, or call its methods."""

    def test_no_other_room_uses_journal_or_gaps(self) -> None:
        """`Account.log` is the journal without the methods that write."""
        modules = [each for each in read_modules("tradeproxy") if each.room != "hub"]
        self.assertEqual([line for each in modules for line in find_reached_parts(each)], [])

    def test_use_of_journal_is_found(self) -> None:
        """The account may be a local name or an attribute."""
        for source in ("account.journal.append(x)", "self._account.gaps", "book.account.journal"):
            self.assertEqual(len(find_reached_parts(Module("tradeproxy.web.site", source))), 1)
        self.assertEqual(find_reached_parts(Module("tradeproxy.web.site", "account.log.last")), [])


class LibraryTests(SynchronousTestCase):
    """Pure modules import no network library, and each special library has few importers."""

    def test_no_module_imports_forbidden_library(self) -> None:
        """See BANS and MONOPOLIES."""
        modules = read_modules("tradeproxy")
        self.assertEqual([line for module in modules for line in find_violations(module)], [])

    def test_every_rule_names_existing_module(self) -> None:
        """A module that is renamed takes its rules along."""
        names = {module.name for module in read_modules("tradeproxy")}
        owners = {owner for owners in MONOPOLIES.values() for owner in owners}
        self.assertEqual({*BANS, *owners} - names, set())

    def test_forbidden_import_is_found(self) -> None:
        """One row a rule; the rows also show the ways to write an import."""
        table = (
            ("wire.messages", "import os.path", "tradeproxy.wire is pure"),
            ("wire.event", "def f():\n    from twisted import python", "tradeproxy.wire is pure"),
            ("web.site", "from autobahn.websocket import util", "autobahn is not for this module"),
        )
        for name, source, rule in table:
            [line] = find_violations(Module(f"tradeproxy.{name}", source))
            self.assertTrue(line.endswith(f": {rule}"), line)

    def test_library_of_similar_name_is_another_one(self) -> None:
        """`oslo` is not `os`."""
        module = Module("tradeproxy.wire.messages", "import oslo, timeit, twistedchecker")
        self.assertEqual(find_violations(module), [])
