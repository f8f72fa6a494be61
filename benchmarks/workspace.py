"""The directories of the benchmarks, and the ports of a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"
UPSTREAM_HOST = "127.0.0.1"
"""With TLS, the files of the upstream's key and certificate have this name, too."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The port of a server, the port of its upstream, and its working directory."""

    port: int
    upstream_port: int
    directory: Path
