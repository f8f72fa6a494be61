"""The rooms of the house, and the arrows between them: which module may import which."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

import tradeproxy

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(tradeproxy.__file__).parent

ROOMS = {
    # What begins with the name on the left is in the room on the right; a name is a module or a package.
    "tradeproxy.__main__": "wiring",
    "tradeproxy.cli.check": "wiring",
    "tradeproxy.runtime.gc_service": "wiring",
    "tradeproxy.cli.export": "wiring",
    "tradeproxy.logs": "wiring",
    "tradeproxy.runtime.systemd": "wiring",
    "tradeproxy.runtime.reuseport": "wiring",
    "tradeproxy.runtime.rlimits": "wiring",
    "tradeproxy.service": "wiring",
    "tradeproxy.cli.tail": "wiring",
    "tradeproxy.cli.tail_output": "wiring",
    "tradeproxy.tap": "wiring",
    "tradeproxy.cli.terminal": "wiring",
    "tradeproxy.cli.times": "wiring",
    "tradeproxy.client": "client",
    "tradeproxy.cluster": "cluster",
    "tradeproxy.simulator": "simulator",
    "tradeproxy.web": "web",
    "tradeproxy.upstream": "upstream",
    "tradeproxy.downstream": "downstream",
    "tradeproxy.hub": "hub",
    "tradeproxy.config.settings": "settings",
    "tradeproxy.config.accounts": "settings",
    "tradeproxy.config.env": "settings",
    "tradeproxy.runtime.close_timeout": "settings",
    "tradeproxy.config.storage": "settings",
    "tradeproxy.config.hosts": "settings",
    "tradeproxy.config.endpoints": "settings",
    "tradeproxy.config.addresses": "settings",
    "tradeproxy.config.logging": "settings",
    "tradeproxy.wire": "wire",
    "tradeproxy.wire.credentials": "secret",
}

ARROWS = {
    # A room may import from itself, and from these.
    "wiring": {
        *("client", "cluster", "simulator", "web", "upstream", "downstream"),
        *("hub", "settings", "wire", "secret"),
    },
    "client": {"wire", "secret"},
    "cluster": {"hub", "settings", "wire", "secret"},
    "simulator": {"wire", "secret"},
    "web": {"downstream", "hub", "settings", "wire", "secret"},
    "upstream": {"hub", "settings", "wire", "secret"},
    "downstream": {"hub", "settings", "wire", "secret"},
    "hub": {"settings", "wire", "secret"},
    "settings": {"wire", "secret"},
    "wire": {"secret"},
    "secret": set[str](),
}

NETWORK = ("twisted", "autobahn", "txaio")
AMBIENT = ("os", "time", "random")

BANS = {
    # What begins with the name on the left imports none of the libraries on the right.
    "tradeproxy.wire.credentials": NETWORK,
    "tradeproxy.wire": NETWORK + AMBIENT,
    "tradeproxy.client.resume": NETWORK + AMBIENT,
    "tradeproxy.client.base": (*NETWORK, "os", "time"),
    "tradeproxy.client.aio": NETWORK,
    "tradeproxy.upstream.session": NETWORK,
    "tradeproxy.upstream.backoff": NETWORK,
    "tradeproxy.upstream.http": NETWORK,
    "tradeproxy.recovery.sse_parser": NETWORK,
    "tradeproxy.recovery.reconcile": NETWORK,
    "tradeproxy.recovery.delivered": NETWORK,
    "tradeproxy.downstream.session": NETWORK,
    "tradeproxy.downstream.admission": NETWORK,
    "tradeproxy.downstream.filters": NETWORK,
    "tradeproxy.downstream.query": NETWORK,
    "tradeproxy.downstream.encoder": NETWORK,
    "tradeproxy.downstream.clients": NETWORK,
    "tradeproxy.downstream.once": NETWORK,
    "tradeproxy.web.routes": NETWORK,
}

MONOPOLIES = {
    # Only what begins with one of the names on the right imports the library on the left.
    "prometheus_client": ("tradeproxy.web.metrics",),
    "txredisapi": ("tradeproxy.cluster.redis_client",),
    "shtab": ("tradeproxy.__main__",),
    "websockets": ("tradeproxy.client.aio",),
    "autobahn": (
        "tradeproxy.client.tx",
        "tradeproxy.upstream.client",
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


def modules() -> list[Module]:
    """Return every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found.append(Module(name, path.read_text(encoding="utf-8"), is_package))
    return found


def is_within(name: str, prefix: str) -> bool:
    """Tell whether a dotted name is `prefix` or beneath it."""
    return name == prefix or name.startswith(f"{prefix}.")


def room_of(name: str) -> str | None:
    """Return the room of a module, or of a name in it; None if it has none."""
    return next((room for prefix, room in ROOMS.items() if is_within(name, prefix)), None)


def imports_of(module: Module) -> Iterator[str]:
    """Yield the dotted names that a module imports, wherever it does: in a function, for types only.

    `from a import b` yields a.b, which is beneath a whether b is a module or not.
    """
    for node in ast.walk(ast.parse(module.source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.name.split(".")
                kept = len(parts) - node.level + module.is_package
                base = ".".join([*parts[:kept], *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(module: Module) -> list[str]:
    """Return a line for every import of a module that goes against a rule."""
    return [
        f"{module.name} imports {imported}: {rule}"
        for imported in imports_of(module)
        for rule in (*_arrow(module.name, imported), *_ban(module.name, imported))
    ]


def _arrow(importer: str, imported: str) -> Iterator[str]:
    if not is_within(imported, "tradeproxy"):
        return
    here, there = room_of(importer), room_of(imported)
    if here is None or there is None:
        yield "no room"
    elif here != there and there not in ARROWS[here]:
        yield f"no arrow from {here} to {there}"


def _ban(importer: str, imported: str) -> Iterator[str]:
    for prefix, libraries in BANS.items():
        if is_within(importer, prefix) and any(
            is_within(imported, library) for library in libraries
        ):
            yield f"{prefix} is pure"
    for library, owners in MONOPOLIES.items():
        if is_within(imported, library) and not any(is_within(importer, owner) for owner in owners):
            yield f"{library} is not for this module"


class ArchitectureTests(SynchronousTestCase):
    """The imports of the package keep to the rules above."""

    def test_every_import_follows_an_arrow(self) -> None:
        """No module imports against the arrows, nor a library that it must not know."""
        self.assertEqual([line for module in modules() for line in violations(module)], [])

    def test_every_module_has_a_room(self) -> None:
        """A new module is put into a room before anything imports it."""
        homeless = [module.name for module in modules() if room_of(module.name) is None]
        self.assertEqual(homeless, ["tradeproxy"])

    def test_every_rule_is_about_something_that_exists(self) -> None:
        """A module that was renamed takes its rules along, instead of leaving them behind."""
        names = {module.name for module in modules()}
        subjects = {*ROOMS, *BANS, *(owner for owners in MONOPOLIES.values() for owner in owners)}
        self.assertEqual(subjects - names, set())
        self.assertEqual(set(ROOMS.values()), set(ARROWS))

    def test_the_arrows_run_one_way(self) -> None:
        """No two rooms reach each other, directly or over others."""
        reach = {room: set(neighbours) for room, neighbours in ARROWS.items()}
        for _ in reach:
            for rooms in reach.values():
                rooms.update(*(reach[room] for room in tuple(rooms)))
        self.assertEqual([room for room, rooms in reach.items() if room in rooms], [])

    def test_an_import_against_a_rule_is_found(self) -> None:
        """A row for each rule; they also show the ways to write an import, wherever it stands."""
        table = (
            ("hub.account", "from tradeproxy import upstream", "no arrow from hub to upstream"),
            (
                "hub.account",
                "def f():\n    from ..web.site import build_site",
                "no arrow from hub to web",
            ),
            ("hub.account", "import tradeproxy.novelty as x", "no room"),
            ("novelty", "from tradeproxy.hub import account", "no room"),
            ("wire.messages", "import os.path", "tradeproxy.wire is pure"),
            ("web.site", "from autobahn.websocket import util", "autobahn is not for this module"),
        )
        for name, source, rule in table:
            [line] = violations(Module(f"tradeproxy.{name}", source))
            self.assertTrue(line.endswith(f": {rule}"), line)

    def test_an_import_within_the_rules_is_let_through(self) -> None:
        """A library of a similar name is another one; in an __init__.py one dot is the package itself."""
        for module in (
            Module("tradeproxy.wire.messages", "import oslo, timeit, twistedchecker"),
            Module("tradeproxy.hub", "from . import account", is_package=True),
        ):
            self.assertEqual(violations(module), [])
