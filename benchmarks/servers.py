"""The measured servers: the command of each, and the files that it needs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.workspace import BUILD, HERE, UPSTREAM_HOST
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.workspace import ServerConfig

PEER_PYTHON = HERE / ".venv/bin/python"
TWISTD = Path(sys.executable).parent / "twistd"


@dataclass(frozen=True, slots=True)
class Server:
    """A server. It is skipped if a file in `needs` does not exist."""

    name: str
    command: Callable[[ServerConfig], Sequence[str]]
    environ: Callable[[ServerConfig], Mapping[str, str]] = field(default=lambda config: {})
    path: str = "/"
    tls: bool = False
    upstream_tls: bool = False
    needs: tuple[Path, ...] = ()

    def missing(self) -> list[Path]:
        """Return the files in `needs` that do not exist."""
        return [path for path in self.needs if not path.exists()]


def proxy(name: str, *, sync: str = "full", tls: bool = False, book: bool = True) -> Server:
    """Return the proxy as users start it, or serve.py if the journal is in memory.

    Args:
        name: the name in the tables.
        sync: PROXY_JOURNAL_SYNC, or "memory".
        tls: whether clients connect over TLS.
        book: whether the proxy keeps orders and positions.
    """
    in_memory = sync == "memory"
    command = (
        [sys.executable, str(HERE / "serve.py")]
        if in_memory
        else [str(TWISTD), "-n", "--pidfile=", "tradeproxy"]
    )

    def environ(config: ServerConfig) -> dict[str, str]:
        listen = {"PROXY_HOST": "127.0.0.1", "PROXY_PORT": str(config.port)}
        if tls:
            identity = Authority(str(config.directory)).issue("127.0.0.1")
            listen = {"PROXY_LISTEN": identity.endpoint(config.port)}
        return {
            "ALPACA_API_KEY": "any",
            "ALPACA_SECRET_KEY": "any",
            "ALPACA_URL": f"http://127.0.0.1:{config.upstream_port}",
            "PROXY_BOOK": str(int(book)),
            "PROXY_DATA_DIR": str(config.directory / "journal"),
            "PROXY_JOURNAL_SYNC": "full" if in_memory else sync,
            "PROXY_MAX_CLIENTS": "20000",
            "PROXY_RECOVERY": "off",
            **listen,
        }

    return Server(name, lambda config: command, environ, "/trade-updates-paper", tls)


def with_upstream_tls(server: Server) -> Server:
    """Return the proxy or the relay with `websockets`, with TLS to its upstream."""

    def environ(config: ServerConfig) -> dict[str, str]:
        authority = Authority(str(config.directory))
        authority.issue(UPSTREAM_HOST)
        return {
            **server.environ(config),
            "ALPACA_URL": f"https://{UPSTREAM_HOST}:{config.upstream_port}",
            "UPSTREAM_SCHEME": "wss",
            "SSL_CERT_FILE": str(authority.certificate),
        }

    return replace(server, environ=environ, upstream_tls=True)


def with_tls(server: Server) -> Server:
    """Return a peer whose clients connect over TLS."""

    def environ(config: ServerConfig) -> dict[str, str]:
        identity = Authority(str(config.directory)).issue("127.0.0.1")
        return {
            **server.environ(config),
            "TLS_KEY": str(identity.key),
            "TLS_CERTIFICATE": str(identity.certificate),
        }

    return replace(server, name=f"{server.name}, TLS", environ=environ, tls=True)


def limit(name: str, mode: str) -> Server:
    """Return the C loop: a send() per client for each event, or for each read ("joined")."""
    program = BUILD / "limit"
    return Server(
        name, lambda config: [str(program), str(config.port), str(config.upstream_port), mode]
    )


def peer(name: str, runner: Path | str, script: str, *needs: Path, more: str = "") -> Server:
    """Return a relay in peers/; `more` is another argument of its."""
    path = HERE / "peers" / script

    def command(config: ServerConfig) -> list[str]:
        return [str(runner), str(path), str(config.port), str(config.upstream_port), *more.split()]

    return Server(name, command, needs=needs)


def python_peer(name: str, script: str, more: str = "") -> Server:
    """Return a relay in Python, which runs in benchmarks/.venv."""
    return peer(name, PEER_PYTHON, script, PEER_PYTHON, more=more)


def _gorilla() -> Server:
    program = BUILD / "gorilla"
    return Server(
        "Go gorilla, prepared",
        lambda config: [str(program), str(config.port), str(config.upstream_port)],
        needs=(program,),
    )


LIMIT = limit("C, a send() each", "send")
PROXY = proxy("tradeproxy, journal full")
NORMAL = proxy("tradeproxy, journal normal", sync="normal")
NO_BOOK = proxy("tradeproxy, normal, without its book", sync="normal", book=False)
IN_MEMORY = proxy("tradeproxy, journal in memory", sync="memory")
WEBSOCKETS = python_peer("websockets broadcast", "websockets_relay.py")
KEEPING = python_peer("websockets, events kept in a file", "websockets_relay.py", "events")
AIOHTTP = python_peer("aiohttp", "aiohttp_relay.py")
PICOWS = python_peer("picows", "picows_relay.py")
AUTOBAHN = python_peer("Autobahn sendMessage", "autobahn_relay.py")
SITE = python_peer("twisted.web alone", "site_alone.py")
"""Accepts clients and relays nothing: the cost of the kernel and twisted.web in a handshake."""

SOCKETIFY = python_peer("socketify publish", "socketify_relay.py")
NODE = peer("Node ws", "node", "ws_relay.mjs", HERE / "node_modules/ws")
GORILLA = _gorilla()
LIMIT_JOINED = limit("C, bursts joined", "joined")
LIMIT_TLS = with_tls(LIMIT)
PROXY_TLS = proxy("tradeproxy, TLS, journal full", tls=True)

SERVERS = (
    LIMIT,
    LIMIT_JOINED,
    PROXY,
    NORMAL,
    IN_MEMORY,
    WEBSOCKETS,
    AIOHTTP,
    PICOWS,
    SOCKETIFY,
    AUTOBAHN,
    NODE,
    GORILLA,
)

TLS_SERVERS = (
    LIMIT_TLS,
    with_tls(LIMIT_JOINED),
    PROXY,
    PROXY_TLS,
    with_tls(python_peer("pyOpenSSL", "pyopenssl_relay.py")),
    with_tls(WEBSOCKETS),
    with_tls(SOCKETIFY),
    with_tls(NODE),
    with_tls(GORILLA),
)
"""Servers with TLS, and the proxy without."""
