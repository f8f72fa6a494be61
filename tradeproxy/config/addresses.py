"""Where to listen: variables and options become complete Twisted endpoint descriptions."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from tradeproxy.config.endpoints import (
    complete,
    describe_tcp,
    find_expired,
    has_ipv6_loopback,
    loopback_descriptions,
)
from tradeproxy.config.env import Environment
from tradeproxy.config.setting import ListSetting, Setting, flag
from tradeproxy.wire import hosts


def parse_port(text: str) -> int:
    """Parse a port from 1 to 65535. Raises ValueError with a reason for the user."""
    if re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"{text!r} is not a port (1 to 65535)")


PORT = Setting(
    "PROXY_PORT",
    parse_port,
    "8099",
    "the port of the stream and of the health checks",
    "The demo also uses the next two ports, for its embedded Alpaca.",
)
HOST = ListSetting(
    "PROXY_HOST",
    hosts.canonicalize,
    "127.0.0.1,::1",
    "addresses or host names, separated by commas; an address that other machines can reach needs"
    " tokens",
    cell="127.0.0.1 and ::1",
)
LISTEN = ListSetting(
    "PROXY_LISTEN",
    complete,
    "",
    "Twisted endpoints (`ssl:…`, `unix:…`, `systemd:…`) instead of the two above, separated by"
    " spaces",
    "Examples: ssl:8099:privateKey=key.pem:certKey=cert.pem, unix:/run/tradeproxy.sock,"
    " systemd:domain=INET:index=0.",
    separator=None,  # descriptions contain colons and commas, so white space separates them
)
REUSE_PORT = Setting(
    "PROXY_REUSE_PORT",
    flag,
    "0",
    "`1`: processes on this machine share the TCP ports (`SO_REUSEPORT`); needs `PROXY_REDIS_URL`",
    "All belong to one user. Linux distributes new connections evenly; other systems may not.",
)
SETTINGS = (PORT, HOST, LISTEN, REUSE_PORT)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where to listen, and which variables or options set it.

    `source` set the descriptions, `port_source` the port. `port` is the default if neither a
    variable nor an option sets it.
    """

    descriptions: tuple[str, ...]
    source: str
    port: int
    port_source: str
    names: tuple[str, ...] = ()
    """The host names in PROXY_HOST. Clients send them as `Host`, so they must be allowed."""


def read_addresses(
    env: Environment, port: str | None, listen: Sequence[str], ipv6_loopback: bool | None
) -> Addresses:
    """Read where to listen. Options override variables. Problems go to `env.findings`.

    Args:
        env: the variables PROXY_LISTEN, PROXY_HOST and PROXY_PORT.
        port: the text of --port, or None.
        listen: the endpoint descriptions of --listen, in Twisted's syntax.
        ipv6_loopback: whether ::1 exists; None tries to bind it.
    """
    if port is None:
        port_source, number = PORT.name, PORT.read(env)
    else:
        port_source = "--port"
        number = env.findings.attempt(port_source, parse_port, port, PORT.default)
    parse = partial(complete, is_running=env.is_running)
    if listen:
        source = "--listen"
        attempts = (env.findings.attempt(source, parse, description, "") for description in listen)
        descriptions = tuple(description for description in attempts if description)
        if port is not None:
            env.findings.problem("--port: --listen is given too, and contains the port")
    elif port is None and env.get(LISTEN.name):
        source, descriptions = LISTEN.name, env.read_list(replace(LISTEN, parse=parse))
        env.warn_unused((HOST.name, PORT.name), f"for listening, since {source} is set")
    else:
        source, listen_hosts = HOST.name, env.read_list(HOST)
        descriptions = tuple(describe_tcp(host, number) for host in listen_hosts)
        if not descriptions:
            ipv6 = has_ipv6_loopback() if ipv6_loopback is None else ipv6_loopback
            descriptions = loopback_descriptions(number, ipv6)
        env.warn_unused((LISTEN.name,), "for listening, since --port is set")
        names = tuple(host for host in listen_hosts if not hosts.is_address(host))
        return Addresses(descriptions, source, number, port_source, names)
    if not env.is_running:
        for line in (line for each in descriptions for line in find_expired(each)):
            env.findings.warning(f"{source}: {line}")
    return Addresses(descriptions, source, number, port_source)


def read_reuse_port(env: Environment, *, demo: bool) -> bool:
    """Read whether processes share the TCP ports. Problems and warnings go to `env.findings`."""
    reuse_port = REUSE_PORT.read(env)
    if reuse_port and demo:
        env.warn_unused((REUSE_PORT.name,), "by the demo, which is a single process")
        return False
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        env.findings.problem(f"{REUSE_PORT.name}: this system has no SO_REUSEPORT")
    if reuse_port and env.find_source("PROXY_REDIS_URL") is None:
        env.findings.warning(
            f"{REUSE_PORT.name}: PROXY_REDIS_URL is not set;"
            " processes that share a port must share the log"
        )
    return reuse_port
