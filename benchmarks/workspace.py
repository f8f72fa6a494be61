"""Where the benchmarks keep their files, and what a server gets of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is to be: its port, its upstream's, and a directory of its own."""

    port: int
    upstream_port: int
    directory: Path
