"""The description of a client: its packages, its driver and its known limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Column(Enum):
    """What is checked for every client, in the order of the matrix."""

    CONNECTS = "connects"
    ALL_EVENTS = "all events"
    UNDISTURBED = "undisturbed"
    RESTART = "survives a restart"
    RESUMES = "resumes"


@dataclass(frozen=True, slots=True)
class InteropClient:
    """One row of the matrix.

    `driver` is a file in drivers/. It is a complete program, and runs as it is, with its name after
    `command`. The proxy listens on its default port. An event is a line of the output with the kind
    and the order's id, such as `fill 61e69015-8549-4bfd-b9c3-01e75843f47d`.
    """

    name: str
    command: tuple[str, ...]
    """The program and its arguments. It is in an installed package, or in PATH."""
    driver: str
    pip: tuple[str, ...] = ()
    """Packages from PyPI, for example "alpaca-py==0.44.0"."""
    pip_alone: tuple[str, ...] = ()
    """More packages from PyPI, installed without their dependencies."""
    npm: tuple[str, ...] = ()
    """Packages from npm, for example "ws@8.23.0"; node_modules is beside the driver."""
    debian: tuple[str, ...] = ()
    """Debian packages that must be installed already."""
    build: tuple[str, ...] = ()
    """A command that is run first, with the driver's name behind it."""
    needs: str = ""
    """What must be set in the client, in a phrase of Markdown."""
    files: tuple[str, ...] = ()
    """More files in drivers/ to copy."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the driver."""
    front: str = ""
    """The reverse proxy in front of the proxy: the name of a file in configurations/."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables for the proxy."""
    resumes: bool = False
    """Whether the driver resumes by documented means; otherwise the cell is n/a."""
    reconnect_timeout: float = 20
    """Seconds to reconnect after a restart; an SDK's own backoff may be long."""
    outage: float = 2.5
    """Seconds for which the proxy is down; a retry every second fails at least once."""
    orders_only: bool = False
    """Whether the SDK reports current orders instead of events: only the last state counts."""
    fails_on_multi_leg: bool = False
    """Whether a multi-leg order stops the SDK, so that none is sent; `remarks` must explain it."""
    remarks: Mapping[Column, str] = field(default_factory=dict)
    """A footnote for a cell: a limit of the SDK, with evidence; the cell has a star."""
    skipped: str = ""
    """The reason why the client cannot run; it is printed instead of a row."""
