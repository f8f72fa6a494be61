"""The addresses we listen on: what a Twisted endpoint description means to us.

The grammar and the parameters are those of twisted.internet.endpoints.serverFromString (Twisted 26.10).
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.endpoints import quoteStringArgument, serverFromString

from tradeproxy.config import hosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The parameters that we look into, in the order of their positions, and Twisted's defaults.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
    "tls": ("path", "port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
_DEFAULTS: dict[str, dict[str, str]] = {
    "tcp": {"interface": ""},
    "tcp6": {"interface": "::"},
    "ssl": {"interface": ""},
    "tls": {"port": "443", "interface": "::"},
    "unix": {"lockfile": "1"},
}

# Ours where a description is silent. Twisted's backlog of 50 refuses a thousand clients that come back at
# once, and its mode of 666 lets every user of the machine in.
_ADDITIONS: dict[str, dict[str, str]] = {
    "tcp": {"backlog": "4096"},
    "tcp6": {"backlog": "4096"},
    "ssl": {"backlog": "4096"},
    "tls": {"backlog": "4096"},
    "unix": {"mode": "600"},
}

_PHRASES = {
    errno.EADDRINUSE: "is in use",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EACCES: "permission denied",
}


def loopback_descriptions(port: int, ipv6: bool) -> tuple[str, ...]:
    """Describe this machine's own addresses: both of them, since "localhost" may be either."""
    addresses = ("127.0.0.1", "::1") if ipv6 else ("127.0.0.1",)
    return tuple(describe_tcp(address, port) for address in addresses)


def has_ipv6_loopback() -> bool:
    """Whether ::1 can be listened on."""
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


def describe_tcp(host: str, port: int) -> str:
    """Describe a TCP port at an address, or at a host name, which then means its IPv4 address."""
    kind = "tcp6" if ":" in host else "tcp"
    return complete(f"{kind}:{port}:interface={quoteStringArgument(host)}")


def complete(description: str) -> str:
    """Return the description with our defaults where it is silent; nothing is opened.

    Raises ValueError, with a phrase for the user, when it cannot be listened on for what it says.
    """
    meaning = _parse(description)
    try:
        # No endpoint asks its reactor for anything before listen(); importing the real one would choose it.
        serverFromString(object(), description)
        if meaning.on_tcp:
            _check(meaning)
        if meaning.kind == "unix" and not meaning["address"]:
            raise ValueError("it has no path")
    except Exception as error:  # whatever a parser, a plugin's too, makes of nonsense
        missing = meaning.kind == "systemd" and isinstance(error, LookupError)
        reason = "no such socket was passed on to this process" if missing else error
        raise ValueError(f"'{description}' cannot be listened on: {reason}") from None
    additions = _ADDITIONS.get(meaning.kind, {}).items()
    return description + "".join(
        f":{name}={value}" for name, value in additions if name not in meaning.given
    )


def is_local(description: str) -> bool:
    """Whether only this machine can reach the address; in doubt it is not so."""
    meaning = _parse(description)
    if meaning.kind == "systemd":
        return _is_local_socket(meaning)
    return meaning.kind == "unix" or (meaning.on_tcp and hosts.is_loopback(meaning.interface))


def format_url(description: str) -> str:
    """Say how to reach an address: a URL, "unix:/path", or the description where neither says it."""
    meaning = _parse(description)
    if meaning.on_tcp and not meaning.behind_haproxy:
        scheme = "https" if meaning.kind in ("ssl", "tls") else "http"
        return f"{scheme}://{meaning.authority}"
    if meaning.kind == "unix" and not meaning.behind_haproxy:
        return f"unix:{meaning['address']}"
    return description


def find_bind_problems(descriptions: Iterable[str], *, reuse_port: bool = False) -> tuple[str, ...]:
    """Try to listen on all of them at once, and say what is in the way, a line each.

    At once, because `::` takes 0.0.0.0's port as well. On return nothing is open any more: twistd forks
    later. What cannot be tried (inherited sockets, other kinds) is passed over. With `reuse_port` a TCP port
    is free too if those who have it share it.
    """
    with ExitStack() as opened:
        problems = [_bind_problem(description, opened, reuse_port) for description in descriptions]
    return tuple(problem for problem in problems if problem is not None)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A description taken apart: its kind and what it gives; what it does not give is Twisted's default."""

    kind: str
    given: Mapping[str, str]
    behind_haproxy: bool = False

    def __getitem__(self, name: str) -> str:
        return self.given[name] if name in self.given else _DEFAULTS[self.kind][name]

    @property
    def on_tcp(self) -> bool:
        return "port" in _PARAMETERS.get(self.kind, ())

    @property
    def port(self) -> int:
        return int(self["port"])

    @property
    def interface(self) -> str:
        return self["interface"]

    @property
    def authority(self) -> str:
        return f"{hosts.format_in_url(self.interface or '0.0.0.0')}:{self.port}"


def _parse(description: str) -> _Endpoint:
    positional, keywords = _split(description)
    behind_haproxy = positional[:1] == ["haproxy"]  # what follows is a description of its own
    kind, *positional = positional[behind_haproxy:] or [""]
    kind = kind.lower()
    given = dict(zip(_PARAMETERS.get(kind, ()), positional, strict=False))
    return _Endpoint(kind, {**given, **keywords}, behind_haproxy)


def _check(meaning: _Endpoint) -> None:
    if not 0 <= meaning.port <= 65535:
        raise ValueError(f"{meaning.port} is not a port")
    if meaning.interface:
        hosts.canonicalize(meaning.interface)


def _split(description: str) -> tuple[list[str], dict[str, str]]:
    """Part the positional arguments of a description from its keywords, as Twisted does."""
    fields = [[""]]
    characters = iter(description)
    for character in characters:
        if character == ":":
            fields.append([""])
        elif character == "=" and len(fields[-1]) == 1:
            fields[-1].append("")
        elif character == "\\":
            fields[-1][-1] += next(characters, "")
        else:
            fields[-1][-1] += character
    positional = [field[0] for field in fields if len(field) == 1]
    return positional, {field[0]: field[1] for field in fields if len(field) == 2}


def _is_local_socket(meaning: _Endpoint) -> bool:
    arguments = (f":{name}={quoteStringArgument(value)}" for name, value in meaning.given.items())
    try:
        # Only Twisted knows which sockets were inherited: importing it takes them out of the environment.
        endpoint = serverFromString(object(), "systemd" + "".join(arguments))
        with socket.socket(fileno=os.dup(endpoint.fileno)) as inherited:
            address = inherited.getsockname()
            return inherited.family == socket.AF_UNIX or hosts.is_loopback(str(address[0]))
    except (OSError, LookupError, AttributeError, TypeError, ValueError):
        return False


def _bind_problem(description: str, opened: ExitStack, reuse_port: bool) -> str | None:
    meaning = _parse(description)
    if meaning.on_tcp:
        family = socket.AF_INET6 if ":" in meaning.interface else socket.AF_INET
        return _try_bind(
            family, (meaning.interface, meaning.port), meaning.authority, opened, reuse_port
        )
    if meaning.kind == "unix":
        return _unix_problem(meaning["address"], int(meaning["lockfile"]) != 0, opened)
    return None


def _unix_problem(path: str, locks: bool, opened: ExitStack) -> str | None:
    """Foresee twisted.internet.unix.Port: its lock file tells a living owner's socket from a dead one's."""
    owner = _lock_owner(f"{path}.lock") if locks else None
    if owner is not None and _is_alive(owner):
        return f"unix:{path} is in use by process {owner}, says {path}.lock"
    if os.path.lexists(path):
        is_left_behind = owner is not None and Path(path).is_socket()  # and then Twisted removes it
        return None if is_left_behind else f"unix:{path} exists already"
    problem = _try_bind(socket.AF_UNIX, path, f"unix:{path}", opened)
    if problem is None:
        os.unlink(path)
    return problem


def _lock_owner(lock: str) -> int | None:
    try:
        return int(os.readlink(lock))
    except (OSError, ValueError):
        return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _try_bind(
    family: int,
    address: tuple[str, int] | str,
    label: str,
    opened: ExitStack,
    reuse_port: bool = False,
) -> str | None:
    try:
        trial = opened.enter_context(socket.socket(family))
        if family != socket.AF_UNIX:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Twisted does
        if reuse_port:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        trial.bind(address)
        if not reuse_port:  # it would be given connections that are for the others
            trial.listen(1)
    except OSError as error:
        reason = _PHRASES.get(error.errno or 0)
        return f"{label} {reason}" if reason else f"{label}: {error.strerror or error}"
    return None
