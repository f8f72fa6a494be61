"""Who may connect: tokens, origins and hosts of web pages, reverse proxies, the REST interface."""

from __future__ import annotations

from ipaddress import ip_network

from tradeproxy.config.addresses import Addresses
from tradeproxy.config.endpoints import format_url, is_local
from tradeproxy.config.env import Environment
from tradeproxy.config.setting import ListSetting, Setting, flag, is_visible_ascii
from tradeproxy.wire import hosts
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.quote import hide_keys

WEAK_TOKEN = 16
"""A token with fewer characters causes a warning."""

UNIX = "unix"
"""The entry of PROXY_TRUSTED_PROXIES that stands for every peer at a UNIX socket."""


def canonicalize_proxy(text: str) -> str:
    """Return an entry of PROXY_TRUSTED_PROXIES as a network (`10.0.0.7/32`) or UNIX.

    Raises ValueError with a reason for the user.
    """
    if text.lower() == UNIX:
        return UNIX
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is neither an address, a network nor {UNIX}") from None


TOKENS = Setting(
    "PROXY_TOKENS",
    str,
    "",
    "tokens, separated by commas; every client needs one; one below 16 characters is accepted with"
    " a warning, and refused by a later version",
    "A client sends one as its key or its secret. Without tokens, the proxy accepts every client of"
    " this machine.",
    secret=True,
    reload=True,
)
ALLOW_ANONYMOUS = Setting(
    "PROXY_ALLOW_ANONYMOUS", flag, "0", "`1`: accept clients of other machines without a token"
)
ALLOWED_ORIGINS = ListSetting(
    "PROXY_ALLOWED_ORIGINS",
    lambda text: hosts.canonicalize_origin(text.removesuffix("/")),
    "",
    "origins of web pages that may connect, as scheme://host:port, separated by commas",
    reload=True,
)
ALLOWED_HOSTS = ListSetting(
    "PROXY_ALLOWED_HOSTS",
    hosts.canonicalize,
    "",
    "additional host names of this server, separated by commas",
    "The proxy rejects all other names, because a web page can make its own name resolve to this"
    " machine (DNS rebinding).",
    reload=True,
)
TRUSTED_PROXIES = ListSetting(
    "PROXY_TRUSTED_PROXIES",
    canonicalize_proxy,
    "",
    "addresses, networks or `unix`, separated by commas:"
    " [reverse proxies](reverse-proxy.md#proxy_trusted_proxies) whose headers X-Forwarded-For,"
    " -Proto and -Host count",
)
REST = Setting(
    "PROXY_REST",
    flag,
    "0",
    "`1`: forward Alpaca's [REST interface](protocol.md#rest); not with `PROXY_TOKENS`",
    "It is at the account's path and /v2/; the keys are those of the client.",
)
SETTINGS = (TOKENS, ALLOW_ANONYMOUS, ALLOWED_ORIGINS, ALLOWED_HOSTS, TRUSTED_PROXIES, REST)


def read_tokens(env: Environment) -> tuple[Secret, ...]:
    """Read the tokens; none if clients need none. Problems and warnings go to `env.findings`."""
    source = env.find_source(TOKENS.name)
    text = env.read_secret(TOKENS.name)
    tokens = [token.strip() for token in text.split(",") if token.strip()]
    # Without this problem, a list of blanks would mean that no token is necessary.
    if text and not tokens:
        env.findings.problem(f"{source}: contains no token")
    if not all(map(is_visible_ascii, tokens)):
        env.findings.problem(
            f"{source}: a token contains white space, or is not ASCII; separate tokens by commas"
        )
    if any(len(token) < WEAK_TOKEN for token in tokens):
        env.findings.warning(
            f"{source}: a token of fewer than {WEAK_TOKEN} characters can be guessed;"
            " a later version will refuse it"
        )
    return tuple(Secret(token) for token in tokens)


def check_exposure(env: Environment, addresses: Addresses) -> None:
    """Report each address that other machines can reach without a token."""
    anonymous = ALLOW_ANONYMOUS.read(env)
    if anonymous or env.find_source(TOKENS.name):
        return
    for description in addresses.descriptions:
        if not is_local(description):
            url = hide_keys(format_url(description), description)
            env.findings.problem(
                f"{addresses.source}: other machines may reach {url}"
                " and read every order;"
                " set PROXY_TOKENS, or PROXY_ALLOW_ANONYMOUS=1 to allow that"
            )


def read_rest(env: Environment, addresses: Addresses) -> bool:
    """Read whether the proxy forwards REST. Problems and warnings go to `env.findings`."""
    rest = REST.read(env)
    if rest and (tokens := env.find_source(TOKENS.name)):
        env.findings.problem(
            f"PROXY_REST: {tokens} is set too;"
            " the headers of a request cannot carry a token and Alpaca's keys"
        )
    elif rest and any(
        format_url(description).startswith("http:") and not is_local(description)
        for description in addresses.descriptions
    ):
        env.findings.warning(
            "PROXY_REST: other machines send their keys unencrypted; use ssl: in PROXY_LISTEN"
        )
    return rest
