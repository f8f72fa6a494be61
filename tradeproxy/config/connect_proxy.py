"""The HTTP proxy on the way to Alpaca: HTTPS_PROXY and NO_PROXY of the process's environment.

Programs differ in what they make of these variables; docs/configuration.md has the rules here.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from tradeproxy.config.env import Findings
from tradeproxy.config.setting import check_encoding, is_visible_ascii
from tradeproxy.wire import hosts
from tradeproxy.wire.credentials import Secret

URL_VARIABLES = ("https_proxy", "HTTPS_PROXY")
"""The first one that is set counts, as in curl and requests."""

EXCEPTION_VARIABLES = ("no_proxy", "NO_PROXY")

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_A_URL = (
    "not a URL such as http://user:password@proxy.example:3128;"
    " in user and password, special characters are percent-encoded"
)
_ENTRY = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>\*|[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class NoProxyEntry:
    """An entry of NO_PROXY. Exactly one of `network` and `name` is set.

    `name` is a host name, which stands for its subdomains too, or "*" for every host. `port` is
    None for every port.
    """

    network: IPv4Network | IPv6Network | None
    name: str | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> NoProxyEntry:
        """Parse an entry. Raises ValueError, with a reason that does not quote it, for the user."""
        text = text.lower()
        try:
            return cls(ip_network(text, strict=False), None, None)
        except ValueError:
            pass
        if match := _ENTRY.fullmatch(text):
            host = match["ipv6"] or match["name"]
            port = None if match["port"] is None else int(match["port"])
            try:
                if match["ipv6"] or hosts.is_address(host):
                    return cls(ip_network(host), None, port)
                name = host.removeprefix("*.").removeprefix(".")
                return cls(None, name if name == "*" else hosts.canonicalize(name), port)
            except ValueError:
                pass
        raise ValueError("is no host name, domain, address or network; it is not used")

    def matches(self, host: str, port: int) -> bool:
        """Return whether a server is an exception. `host` is canonical; it is not resolved."""
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return hosts.is_address(host) and ip_address(host) in self.network
        return self.name in ("*", host) or host.endswith(f".{self.name}")


@dataclass(frozen=True, slots=True)
class ConnectProxy:
    """An HTTP proxy that opens tunnels (CONNECT; RFC 9110, 9.3.6).

    secure: whether the connection to it uses TLS.
    authorization: the value of Proxy-Authorization, or None.
    exceptions: the servers that are connected to without it.
    source: the variable that names it.
    """

    secure: bool
    host: str
    port: int
    authorization: Secret | None
    exceptions: tuple[NoProxyEntry, ...]
    source: str

    @property
    def label(self) -> str:
        """Its URL, without user and password."""
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{hosts.format_in_url(self.host)}:{self.port}"

    def serves(self, host: str, port: int) -> bool:
        """Return whether connections to a server, by its canonical host, go through the proxy."""
        return not hosts.is_loopback(host) and not any(
            entry.matches(host, port) for entry in self.exceptions
        )


def read_connect_proxy(environ: Mapping[str, str], findings: Findings) -> ConnectProxy | None:
    """Return the proxy that the environment names, or None. No finding quotes what is there.

    `environ` is that of the process: a `.env` must not redirect connections.
    """
    source = _find_variable(environ, URL_VARIABLES, findings)
    if source is None:
        return None
    proxy = findings.attempt(source, _parse_url, environ[source].strip(), None)
    exceptions = _find_variable(environ, EXCEPTION_VARIABLES, findings)
    if proxy is None:
        return None
    secure, host, port, authorization = proxy
    entries = () if exceptions is None else _parse_exceptions(exceptions, environ, findings)
    return ConnectProxy(secure, host, port, authorization, entries, source)


def _find_variable(
    environ: Mapping[str, str], names: tuple[str, str], findings: Findings
) -> str | None:
    first, second = names
    is_set = [bool(environ.get(name, "").strip()) for name in names]
    if all(is_set) and environ[first].strip() != environ[second].strip():
        findings.warning(f"{second}: not used, since {first} is set")
    return first if is_set[0] else second if is_set[1] else None


def _parse_exceptions(
    name: str, environ: Mapping[str, str], findings: Findings
) -> tuple[NoProxyEntry, ...]:
    entries = []
    for number, text in enumerate(filter(None, re.split(r"[,\s]+", environ[name])), start=1):
        try:
            entries.append(NoProxyEntry.parse(text))
        except ValueError as error:
            # It may be a URL with a password, which belongs into another variable.
            findings.warning(f"{name}: entry {number} {error}")
    return tuple(entries)


def _parse_url(text: str) -> tuple[bool, str, int, Secret | None]:
    """Return whether it is https, the host, the port, and the value of Proxy-Authorization.

    Raises ValueError with a reason for the user. The reason quotes no part of the URL, because a
    malformed one may show a password anywhere.
    """
    if not is_visible_ascii(text):
        raise ValueError(_NOT_A_URL)
    check_encoding(text)
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() not in _DEFAULT_PORTS:
        raise ValueError("only a proxy with http:// or https:// is supported")
    try:
        parts = urlsplit(text if separator else f"http://{text}")
        host, port = hosts.canonicalize(parts.hostname or ""), parts.port
        authorization = _encode_credentials(parts.username, parts.password)
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    # A "/", "?" or "#" in a password ends the host, so that what is left looks like a port.
    if port == 0 or parts.path not in ("", "/") or "?" in text or "#" in text:
        raise ValueError(_NOT_A_URL)
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    return parts.scheme == "https", host, port, authorization


def _encode_credentials(user: str | None, password: str | None) -> Secret | None:
    """Return the value of Proxy-Authorization (RFC 7617), or None without a user.

    Raises ValueError if one of them is not UTF-8, or if the user contains a colon.
    """
    if user is None:
        return None
    name, secret = (unquote(each or "", errors="strict") for each in (user, password))
    if ":" in name:
        raise ValueError
    return Secret(f"Basic {b64encode(f'{name}:{secret}'.encode()).decode()}")
