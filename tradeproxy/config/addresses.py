"""Where to listen: variables and options become complete Twisted endpoint descriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tradeproxy.config.endpoints import (
    complete,
    describe_tcp,
    has_ipv6_loopback,
    loopback_descriptions,
)
from tradeproxy.wire import hosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tradeproxy.config.env import Environment

DEFAULT_PORT = 8099


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where to listen, and which variables or options set it.

    `source` set the descriptions, `port_source` the port. `port` is DEFAULT_PORT if neither a
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
        port_source = "PROXY_PORT"
        number = env.parse(port_source, parse_port, DEFAULT_PORT)
    else:
        port_source = "--port"
        number = env.findings.attempt(port_source, parse_port, port, DEFAULT_PORT)
    if listen:
        source = "--listen"
        attempts = (
            env.findings.attempt(source, complete, description, "") for description in listen
        )
        descriptions = tuple(description for description in attempts if description)
        if port is not None:
            env.findings.problem("--port: --listen is given too, and contains the port")
    elif port is None and env.get("PROXY_LISTEN"):
        source = "PROXY_LISTEN"
        # Descriptions contain colons and commas, so white space separates them.
        descriptions = env.parse_list(source, complete, separator=None)
        env.warn_unused(("PROXY_HOST", "PROXY_PORT"), f"for listening, since {source} is set")
    else:
        source = "PROXY_HOST"
        listen_hosts = env.parse_list(source, hosts.canonicalize)
        descriptions = tuple(describe_tcp(host, number) for host in listen_hosts)
        if not descriptions:
            ipv6 = has_ipv6_loopback() if ipv6_loopback is None else ipv6_loopback
            descriptions = loopback_descriptions(number, ipv6)
        env.warn_unused(("PROXY_LISTEN",), "for listening, since --port is set")
        names = tuple(host for host in listen_hosts if not hosts.is_address(host))
        return Addresses(descriptions, source, number, port_source, names)
    return Addresses(descriptions, source, number, port_source)


def parse_port(text: str) -> int:
    """Parse a port from 1 to 65535. Raises ValueError with a reason for the user."""
    if re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"{text!r} is not a port (1 to 65535)")
