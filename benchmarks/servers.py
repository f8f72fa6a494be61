"""The servers that are measured: how each is started, and what it needs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.workspace import BUILD, HERE
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.workspace import Place

PEER_PYTHON = HERE / ".venv/bin/python"
TWISTD = Path(sys.executable).parent / "twistd"


@dataclass(frozen=True, slots=True)
class Server:
    """One of them. Without one of the files in `needs` it is left out."""

    name: str
    command: Callable[[Place], Sequence[str]]
    environ: Callable[[Place], Mapping[str, str]] = field(default=lambda place: {})
    path: str = "/"
    tls: bool = False
    needs: tuple[Path, ...] = ()

    def missing(self) -> list[Path]:
        """Return the files that are not there."""
        return [path for path in self.needs if not path.exists()]


def proxy(name: str, *, sync: str = "full", tls: bool = False) -> Server:
    """Return the proxy as a user starts it; with `sync` "memory" with its journal in memory, by serve.py."""
    in_memory = sync == "memory"
    command = (
        [sys.executable, str(HERE / "serve.py")]
        if in_memory
        else [str(TWISTD), "-n", "--pidfile=", "tradeproxy"]
    )

    def environ(place: Place) -> dict[str, str]:
        listen = {"PROXY_HOST": "127.0.0.1", "PROXY_PORT": str(place.port)}
        if tls:
            identity = Authority(str(place.directory)).issue("127.0.0.1")
            listen = {"PROXY_LISTEN": identity.endpoint(place.port)}
        return {
            "ALPACA_API_KEY": "any",
            "ALPACA_SECRET_KEY": "any",
            "ALPACA_URL": f"http://127.0.0.1:{place.upstream_port}",
            "PROXY_DATA_DIR": str(place.directory / "journal"),
            "PROXY_JOURNAL_SYNC": "full" if in_memory else sync,
            "PROXY_MAX_CLIENTS": "20000",
            "PROXY_RECOVERY": "off",
            **listen,
        }

    return Server(name, lambda place: command, environ, "/trade-updates-paper", tls)


def limit(name: str, mode: str) -> Server:
    """Return the C loop, with a send() for each event and client, or for each burst and client ("joined")."""
    program = BUILD / "limit"
    return Server(
        name, lambda place: [str(program), str(place.port), str(place.upstream_port), mode]
    )


def peer(name: str, runner: Path | str, script: str, *needs: Path) -> Server:
    """Return a relay of the folder peers."""
    path = HERE / "peers" / script

    def command(place: Place) -> list[str]:
        return [str(runner), str(path), str(place.port), str(place.upstream_port)]

    return Server(name, command, needs=needs)


def python_peer(name: str, script: str) -> Server:
    """Return one in Python, which has an environment of its own."""
    return peer(name, PEER_PYTHON, script, PEER_PYTHON)


def _gorilla() -> Server:
    program = BUILD / "gorilla"
    return Server(
        "Go gorilla, prepared",
        lambda place: [str(program), str(place.port), str(place.upstream_port)],
        needs=(program,),
    )


LIMIT = limit("C, a send() each", "send")
PROXY = proxy("tradeproxy")
NORMAL = proxy("tradeproxy, journal normal", sync="normal")
IN_MEMORY = proxy("tradeproxy, journal in memory", sync="memory")
AUTOBAHN = python_peer("Autobahn sendMessage", "autobahn_relay.py")
SITE = python_peer("twisted.web alone", "site_alone.py")
"""Accepts clients, and relays nothing: what the kernel and twisted.web take of a handshake."""

SERVERS = (
    LIMIT,
    limit("C, bursts joined", "joined"),
    PROXY,
    NORMAL,
    IN_MEMORY,
    proxy("tradeproxy, TLS", tls=True),
    python_peer("websockets broadcast", "websockets_relay.py"),
    python_peer("aiohttp", "aiohttp_relay.py"),
    python_peer("picows", "picows_relay.py"),
    python_peer("socketify publish", "socketify_relay.py"),
    AUTOBAHN,
    peer("Node ws", "node", "ws_relay.mjs", HERE / "node_modules/ws"),
    _gorilla(),
)
