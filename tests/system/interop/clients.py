"""The description of a client: its packages, its driver and its known limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Runtime(Enum):
    """The program that runs a driver; it determines where packages come from."""

    PYTHON = "python"
    """A virtual environment with `packages` from PyPI ("alpaca-py==0.44.0")."""
    NODE = "node"
    """A folder with `packages` from npm ("ws@8.18.0"); node_modules is beside the driver."""
    BROWSER = "browser"
    """Like NODE; `launcher` is the script that opens the page."""
    REPLAY = "replay"
    """The tests' Python, replaying the messages of a client that cannot be installed."""


class Column(Enum):
    """What is checked for every client, in the order of the matrix."""

    CONNECTS = "connects"
    ALL_EVENTS = "all events"
    RESTART = "survives a restart"
    UNDISTURBED = "undisturbed"
    RESUMES = "resumes"


@dataclass(frozen=True, slots=True)
class InteropClient:
    """One row of the matrix.

    `driver` is a file in drivers/. It is copied to its own folder, with "localhost:8099" replaced
    by the real address, and run there as `<runtime> [launcher] driver *arguments`. `environment` is
    added to the variables of every driver: TRADEPROXY_URL, TRADEPROXY_HTTP, KEY and SECRET.
    """

    name: str
    runtime: Runtime
    driver: str
    packages: tuple[str, ...] = ()
    launcher: str = ""
    """A file in drivers/ that runs the driver, if the driver cannot run by itself."""
    files: tuple[str, ...] = ()
    """More files in drivers/ to copy, with the same replacement."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    resumes: bool = False
    """Whether the driver resumes by documented means; otherwise the cell is n/a."""
    reconnect_timeout: float = 20
    """Seconds to reconnect after a restart; an SDK's own backoff may be long."""
    orders_only: bool = False
    """Whether the SDK reports current orders instead of events: only the last state counts."""
    unsupported_events: frozenset[str] = frozenset()
    """Kinds of events that the SDK does not report; `remarks` must explain it."""
    fails_on_multi_leg: bool = False
    """Whether a multi-leg order stops the SDK, so that none is sent; `remarks` must explain it."""
    not_applicable: Mapping[Column, str] = field(default_factory=dict)
    """The reason why a column does not apply: "n/a (reason)"."""
    remarks: Mapping[Column, str] = field(default_factory=dict)
    """A footnote for a cell: a limit of the SDK, with evidence; the cell has a star."""
    skipped: str = ""
    """The reason why the client cannot run; it is listed below the matrix."""
    driver_has_snippet: bool = True
    """Whether docs/clients.md shows the code between `snippet:` and `snippet end`."""
