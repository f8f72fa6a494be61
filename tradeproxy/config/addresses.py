"""The settings of listening: variables and options become complete endpoint descriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tradeproxy.config import hosts
from tradeproxy.config.endpoints import (
    complete,
    describe_tcp,
    has_ipv6_loopback,
    loopback_descriptions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tradeproxy.config.env import Environment

DEFAULT_PORT = 8099


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where to listen, and which variable or option said so."""

    descriptions: tuple[str, ...]
    source: str
    port: int
    port_source: str
    names: tuple[str, ...] = ()
    """The host names that were given, by which clients will call us."""


def read_addresses(
    env: Environment, port: str | None, listen: Sequence[str], ipv6_loopback: bool | None
) -> Addresses:
    """Read them; the options `port` and `listen` beat the variables. `ipv6_loopback` None: find out."""
    if port is None:
        port_source, number = "PROXY_PORT", env.parse("PROXY_PORT", parse_port, DEFAULT_PORT)
    else:
        port_source, number = (
            "--port",
            env.findings.attempt("--port", parse_port, port, DEFAULT_PORT),
        )
    if listen:
        source = "--listen"
        attempts = (
            env.findings.attempt(source, complete, description, "") for description in listen
        )
        descriptions = tuple(description for description in attempts if description)
        if port is not None:
            env.findings.problem("--port: --listen is given too, and holds the port itself")
    elif port is None and env.get("PROXY_LISTEN"):
        source = "PROXY_LISTEN"
        descriptions = env.parse_list(source, complete, separator=None)
        env.warn_unused(("PROXY_HOST", "PROXY_PORT"), f"for listening, since {source} is set")
    else:
        source = "PROXY_HOST"
        given = env.parse_list(source, hosts.canonicalize)
        descriptions = tuple(describe_tcp(host, number) for host in given)
        if not descriptions:
            ipv6 = has_ipv6_loopback() if ipv6_loopback is None else ipv6_loopback
            descriptions = loopback_descriptions(number, ipv6)
        env.warn_unused(("PROXY_LISTEN",), "for listening, since --port is set")
        names = tuple(host for host in given if not hosts.is_address(host))
        return Addresses(descriptions, source, number, port_source, names)
    return Addresses(descriptions, source, number, port_source)


def parse_port(text: str) -> int:
    """Read a port; raises ValueError with a phrase for the user."""
    if re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= 65535:
        return int(text)
    raise ValueError(f"{text!r} is not a port (1 to 65535)")
