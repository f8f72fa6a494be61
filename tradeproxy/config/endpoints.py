"""The addresses the proxy listens on, as Twisted endpoint descriptions.

The grammar and the parameters are those of twisted.internet.endpoints.serverFromString
(Twisted 26.10). Twisted parses a description but does not expose the result, so this module parses
it too.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from twisted.internet.endpoints import quoteStringArgument, serverFromString

from tradeproxy.config import certificates
from tradeproxy.wire import hosts
from tradeproxy.wire.quote import hide_keys

# The parameters of each kind, in the order of their positions, and the defaults of Twisted that
# this module reads.
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

# Our defaults, for what a description omits. Twisted's backlog of 50 overflows when a thousand
# clients reconnect at once. Its mode of 666 admits every user of the machine.
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
    """Describe the loopback addresses, both of them: "localhost" can resolve to either."""
    addresses = ("127.0.0.1", "::1") if ipv6 else ("127.0.0.1",)
    return tuple(describe_tcp(address, port) for address in addresses)


def has_ipv6_loopback() -> bool:
    """Whether this machine can listen on ::1."""
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


def describe_tcp(host: str, port: int) -> str:
    """Describe a TCP port at an IP address or at a host name, which resolves to IPv4."""
    kind = "tcp6" if ":" in host else "tcp"
    return complete(f"{kind}:{port}:interface={quoteStringArgument(host)}")


def complete(description: str, *, is_running: bool = False) -> str:
    """Return the description with our defaults for what it omits. It opens no socket.

    It reads keys and certificates as Twisted will, unless the process `is_running`: a file may
    block, and OpenSSL asks for a passphrase on the terminal. Raises ValueError, with a reason for
    the user, if the description is invalid.
    """
    endpoint = _parse(description)
    try:
        _check_text(endpoint)
        if not is_running:
            _check_files(endpoint, description)
    except Exception as error:  # a parser, or a plugin's parser, may raise anything
        missing = endpoint.kind == "systemd" and isinstance(error, LookupError)
        reason = "no such socket was passed to this process" if missing else error
        raise ValueError(f"'{description}' cannot be listened on: {reason}") from None
    additions = _ADDITIONS.get(endpoint.kind, {}).items()
    return description + "".join(
        f":{name}={value}" for name, value in additions if name not in endpoint.given
    )


def find_expired(description: str) -> list[str]:
    """Return a clause for each certificate of an address that has expired."""
    endpoint = _parse(description)
    if endpoint.kind == "ssl":
        file = endpoint.given.get("certKey") or endpoint.given.get("privateKey") or "server.pem"
        return certificates.find_expired([Path(file)])
    if endpoint.kind == "tls":
        return certificates.find_expired(certificates.list_files(endpoint["path"]))
    return []


def is_local(description: str) -> bool:
    """Whether only this machine can reach the address. False if that is not certain."""
    endpoint = _resolve(_parse(description))
    return endpoint.kind == "unix" or (endpoint.on_tcp and hosts.is_loopback(endpoint.interface))


def format_url(description: str) -> str:
    """Format an address for people: a URL, "unix:/path", or else the description itself.

    Behind haproxy it is the description: clients connect to haproxy, at an address of its own.
    An inherited socket has the address that it is bound to.
    """
    endpoint = _parse(description)
    if endpoint.behind_haproxy:
        return description
    endpoint = _resolve(endpoint)
    if endpoint.on_tcp:
        scheme = "https" if endpoint.kind in ("ssl", "tls") else "http"
        return f"{scheme}://{endpoint.authority}"
    if endpoint.kind == "unix":
        return f"unix:{endpoint['address']}"
    return description


def find_bind_problems(descriptions: Iterable[str], *, reuse_port: bool = False) -> tuple[str, ...]:
    """Try to listen on all the addresses at once. Return the problems, one line each.

    It tries all at once because `::` also takes the port of 0.0.0.0. It closes every socket before
    it returns, because twistd forks later. It skips inherited sockets and other kinds of endpoint.
    With `reuse_port`, a TCP port also counts as free if its owners share it (SO_REUSEPORT).
    """
    with ExitStack() as opened:
        problems = [
            _find_bind_problem(description, opened, reuse_port) for description in descriptions
        ]
    return tuple(problem for problem in problems if problem is not None)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A parsed description. `given` has its parameters; Twisted's defaults replace missing ones."""

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
        interface = self.interface or "0.0.0.0"  # noqa: S104  # Twisted's meaning of ""
        return f"{hosts.format_in_url(interface)}:{self.port}"


def _parse(description: str) -> _Endpoint:
    positional, keywords = _split(description)
    behind_haproxy = positional[:1] == ["haproxy"]  # the rest is a complete description
    kind, *positional = positional[behind_haproxy:] or [""]
    kind = kind.lower()
    given = dict(zip(_PARAMETERS.get(kind, ()), positional, strict=False))
    return _Endpoint(kind, {**given, **keywords}, behind_haproxy)


def _check_text(endpoint: _Endpoint) -> None:
    if "sslmethod" in endpoint.given:  # Twisted would also admit old versions
        raise ValueError("leave out sslmethod: TLS has version 1.2 or 1.3")
    if endpoint.behind_haproxy and endpoint.kind in ("ssl", "tls"):
        # Twisted expects the header inside of TLS, where the limits of handshakes miss it.
        raise ValueError("HAProxy sends its header before TLS: end TLS there, or use tcp")
    if endpoint.kind == "unix" and not endpoint.given.get("address"):
        raise ValueError("it has no path")
    if endpoint.on_tcp:
        if not (endpoint.given.get("port") or endpoint.kind == "tls"):
            raise ValueError("it has no port")
        # Twisted checks neither before listen().
        if not 0 <= endpoint.port <= 65535:
            raise ValueError(f"{endpoint.port} is not a port")
        if endpoint.interface:
            hosts.canonicalize(endpoint.interface)


def _check_files(endpoint: _Endpoint, description: str) -> None:
    if endpoint.kind == "ssl":
        certificates.check_pair(description)
        return
    if endpoint.kind == "tls":
        certificates.check_directory(endpoint["path"])
    # No endpoint uses its reactor before listen(). Importing the real one would install it.
    serverFromString(object(), description)


def _split(description: str) -> tuple[list[str], dict[str, str]]:
    """Split a description into positional arguments and keywords, as Twisted does."""
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


def _resolve(endpoint: _Endpoint) -> _Endpoint:
    """Return the endpoint that an inherited socket is bound to. Others are returned unchanged."""
    if endpoint.kind != "systemd":
        return endpoint
    given = endpoint.given.items()
    arguments = "".join(f":{name}={quoteStringArgument(value)}" for name, value in given)
    return read_inherited(arguments) or endpoint


@cache
def read_inherited(arguments: str) -> _Endpoint | None:
    """Return the endpoint that an inherited socket is bound to; None if there is no such socket.

    It is read once, before the proxy listens. Twisted then closes the descriptor, whose number may
    become another file's; a reload asks again. `arguments` follow "systemd" in the description.
    """
    try:
        # Only Twisted has the list of inherited sockets. Its import removes LISTEN_FDS from the
        # environment.
        adopted = serverFromString(object(), f"systemd{arguments}")
        with socket.socket(fileno=os.dup(adopted.fileno)) as inherited:
            address = inherited.getsockname()
            if inherited.family == socket.AF_UNIX:
                # An abstract address is bytes; it begins with a zero, which is written as "@".
                is_abstract = isinstance(address, bytes)
                path = "@" + address[1:].decode() if is_abstract else address
                return _Endpoint("unix", {"address": path})
            host, port = address[:2]
            return _Endpoint("tcp", {"interface": str(host), "port": str(int(port))})
    except (OSError, LookupError, AttributeError, TypeError, ValueError):
        return None


def _find_bind_problem(description: str, opened: ExitStack, reuse_port: bool) -> str | None:
    endpoint = _parse(description)
    if endpoint.on_tcp:
        family = socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
        label = hide_keys(endpoint.authority, endpoint.interface)
        return _try_bind(family, (endpoint.interface, endpoint.port), label, opened, reuse_port)
    if endpoint.kind == "unix":
        return _find_unix_problem(endpoint["address"], int(endpoint["lockfile"]) != 0, opened)
    return None


def _find_unix_problem(path: str, uses_lock: bool, opened: ExitStack) -> str | None:
    """Predict what twisted.internet.unix.Port does.

    Its lock file is a symbolic link to the process id of the owner. If that process is gone,
    Twisted removes the socket file and listens.
    """
    owner = _read_lock_owner(f"{path}.lock") if uses_lock else None
    if owner is not None and _is_alive(owner):
        return f"unix:{path} is in use by process {owner}, according to {path}.lock"
    if os.path.lexists(path):
        is_stale = owner is not None and Path(path).is_socket()
        return None if is_stale else f"unix:{path} already exists"
    problem = _try_bind(socket.AF_UNIX, path, f"unix:{path}", opened)
    if problem is None:
        os.unlink(path)
    return problem


def _read_lock_owner(lock: str) -> int | None:
    try:
        return int(os.readlink(lock))
    except (OSError, ValueError):
        return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process exists and belongs to another user
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
        if not reuse_port:  # the kernel would give it connections for the other processes
            trial.listen(1)
    except OSError as error:
        reason = _PHRASES.get(error.errno or 0)
        return f"{label} {reason}" if reason else f"{label}: {error.strerror or error}"
    return None
