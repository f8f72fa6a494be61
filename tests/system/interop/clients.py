"""The clients: what each is, what it is made of, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Runtime(Enum):
    """What runs a driver, and so where its packages come from."""

    PYTHON = "python"
    """A virtual environment of its own, with `packages` from PyPI ("alpaca-py==0.44.0")."""
    NODE = "node"
    """A folder of its own, with `packages` from npm ("ws@8.18.0"); its node_modules are beside the driver."""
    BROWSER = "browser"
    """As NODE; `launcher` is the driver that opens the page."""
    REPLAY = "replay"
    """The Python of the tests: it says on the wire what a client says that cannot be had here."""


class Column(Enum):
    """What is asked of every client, in the order of the matrix."""

    CONNECTS = "connects"
    ALL_EVENTS = "all events"
    RESTART = "survives a restart"
    UNDISTURBED = "undisturbed"
    RESUMES = "resumes"


@dataclass(frozen=True, slots=True)
class Client:
    """One row of the matrix.

    `driver` is a file in drivers/. It is copied to a folder of its own with "localhost:8099" in its text
    replaced by the real address, and run there as `<runtime> [launcher] driver *arguments`. `environment` is
    added to the variables that every driver has: TRADEPROXY_URL, TRADEPROXY_HTTP, KEY, SECRET.
    """

    name: str
    runtime: Runtime
    driver: str
    packages: tuple[str, ...] = ()
    launcher: str = ""
    """A file in drivers/ that is copied along and runs the driver, for what cannot run by itself."""
    files: tuple[str, ...] = ()
    """More files in drivers/ that are copied along, their text replaced likewise."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    resumes: bool = False
    """Whether the driver asks for what it missed, by means that are documented: else the cell is n/a."""
    patience: float = 20
    """Seconds within which it must be back after a restart: an SDK's own backoff may be long."""
    orders_only: bool = False
    """Whether its user is given orders as they are by now, not events: the last state of each counts."""
    lacks: frozenset[str] = frozenset()
    """Kinds of events that the SDK itself keeps from its user; `remarks` must say why."""
    dies_of_legs: bool = False
    """Whether the SDK does not survive a multi-leg order, so that none is sent; `remarks` must say why."""
    not_applicable: Mapping[Column, str] = field(default_factory=dict)
    """Why a column cannot be asked of this client: "n/a (why)"."""
    remarks: Mapping[Column, str] = field(default_factory=dict)
    """A footnote to a cell: a peculiarity of the SDK's own, with the evidence; the cell has a star."""
    skipped: str = ""
    """Why it cannot be run at all, if so; its row is a line below the matrix."""
    driver_has_snippet: bool = True
    """Whether docs/clients.md shows the driver's code between `snippet:` and `snippet end`."""
