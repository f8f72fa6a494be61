"""Webhooks: where messages about events are sent, about which ones, and in which format."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from tradeproxy.config.env import Environment
from tradeproxy.config.setting import (
    Setting,
    choice,
    flag,
    is_visible_ascii,
    list_settings,
    made_of,
    read_fields,
    seconds,
    setting,
    split_url,
)
from tradeproxy.wire import hosts
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.event import EVENT_KINDS
from tradeproxy.wire.receiver_address import find_refusal

T = TypeVar("T")

PREFIX = "PROXY_WEBHOOK_"

MAX_WEBHOOKS = 20
"""Webhooks of one proxy. Each reads the log of every account that it is for."""

MAX_ITEMS = 100
"""Items of one list of a webhook."""

_VARIABLE = re.compile(rf"{PREFIX}(?P<name>[A-Z0-9]{{1,32}})_(?P<suffix>[A-Z0-9_]+)")
_SYMBOL = re.compile(r"[A-Za-z0-9./:_-]{1,32}")
_KIND = re.compile(r"[a-z0-9_]{1,64}")
_CLIENT_PREFIX = re.compile(r"[ -~]{0,128}")
_KEY_SIZES = range(24, 65)
"""Bytes of a key, as Standard Webhooks defines."""
_NOT_A_URL = "not a URL such as https://receiver.example/path"


class ProxyEvent(Enum):
    """What a webhook can report of the proxy itself. The value is the name in `_EVENTS`."""

    UPSTREAM_DOWN = "upstream_down"
    UPSTREAM_UP = "upstream_up"
    GAP_OPEN = "gap_open"
    GAP_LOST = "gap_lost"
    JOURNAL_NOT_DURABLE = "journal_not_durable"
    LEADER_CHANGED = "leader_changed"


class WebhookFormat(Enum):
    """The format of the messages."""

    JSON = "json"
    """Alpaca's event in an envelope, signed if there is a secret."""
    DISCORD = "discord"
    SLACK = "slack"
    TELEGRAM = "telegram"
    NTFY = "ntfy"
    APPRISE = "apprise"
    """A text, to a URL of the library Apprise, which is an extra."""


_KNOWN_EVENTS = EVENT_KINDS | {event.value for event in ProxyEvent}


@dataclass(frozen=True, slots=True)
class ReceiverUrl:
    """The URL of a receiver. It often contains a token, so no part of it is shown or logged."""

    secure: bool
    host: str = field(repr=False)
    """A canonical name or address."""
    port: int = field(repr=False)
    path: Secret
    """The path, without the query."""
    query: Secret

    @property
    def origin(self) -> str:
        """The scheme, the host and the port."""
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{hosts.format_in_url(self.host)}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, allow_http: bool) -> ReceiverUrl:
        """Parse a URL. Raises ValueError with a reason for the user, which never quotes it."""
        parts, secure, host, port = split_url(text, {"https": True, "http": False}, _NOT_A_URL)
        if "@" in parts.netloc:
            raise ValueError("a user or a password in the URL is not supported")
        if "#" in text:
            raise ValueError("the URL has a fragment (#), which is not sent; write %23 for a #")
        if hosts.is_address(host):
            refusal = find_refusal(host, secure=secure, allow_http=allow_http)
            if refusal is not None:
                raise ValueError(f"refused: the address {refusal}")
        elif not secure and not allow_http and not hosts.is_loopback(host):
            raise ValueError("http is for this machine only; use https")
        return cls(secure, host, port, Secret(parts.path or "/"), Secret(parts.query))


@dataclass(frozen=True, slots=True)
class AppriseUrl:
    """A URL of the library Apprise, such as `mailto://…`. It often contains a password."""

    text: Secret

    @classmethod
    def parse(cls, text: str) -> AppriseUrl:
        """Parse a URL. Raises ValueError with a reason for the user, which never quotes it."""
        if not is_visible_ascii(text) or "://" not in text:
            raise ValueError("not a URL of Apprise, such as mailto://…")
        return cls(Secret(text))


def _split(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not 1 <= len(items) <= MAX_ITEMS:
        raise ValueError(f"is not a list of 1 to {MAX_ITEMS} items, separated by commas")
    return items


def _parse_events(text: str) -> frozenset[str]:
    events = frozenset(event.lower() for event in _split(text))
    for event in sorted(events.difference(_KNOWN_EVENTS)):
        # Alpaca may add kinds of events, so one that is similar to no known kind is accepted.
        cutoff = 0.8 if _KIND.fullmatch(event) else 0
        for nearest in get_close_matches(event, sorted(_KNOWN_EVENTS), n=1, cutoff=cutoff):
            raise ValueError(f"there is no event {event!r}; the nearest is {nearest}")
    return events


def _parse_symbols(text: str) -> frozenset[str]:
    symbols = _split(text) if text else []
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            raise ValueError(f"{symbol!r} is no symbol, such as AAPL or BTC/USD")
    # Alpaca writes pairs both ways: BTC/USD and BTCUSD.
    return frozenset(symbol.upper().replace("/", "") for symbol in symbols)


def _parse_prefix(text: str) -> str:
    if not _CLIENT_PREFIX.fullmatch(text):
        raise ValueError("is not 1 to 128 printable ASCII characters")
    return text


def _parse_secret(text: str) -> Secret | None:
    if not text:
        return None
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _KEY_SIZES:
        raise ValueError("is not whsec_ and the base64 of 24 to 64 bytes")
    return Secret(text)


_ALL = "Blank for all."
_URL = Setting(f"{PREFIX}<NAME>_URL", str, "", "where messages are sent; it is treated as a secret")
_ACCOUNTS = Setting(
    f"{PREFIX}<NAME>_ACCOUNTS", str, "", "names of accounts, separated by commas", _ALL, "all"
)
_FORMAT = Setting(
    f"{PREFIX}<NAME>_FORMAT",
    choice(WebhookFormat),
    "json",
    "`json`, `discord`, `slack`, `telegram`, `ntfy` or `apprise`",
)
_SECRET = Setting(
    f"{PREFIX}<NAME>_SECRET",
    _parse_secret,
    "",
    "the key of the signature, for json: `whsec_` and the base64 of 24 to 64 bytes",
)
_ALLOW_HTTP = Setting(
    f"{PREFIX}<NAME>_ALLOW_HTTP",
    flag,
    "0",
    "`1`: http to private addresses too, not only to this machine",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """One webhook.

    name: as in its variables; logs, metrics and the dashboard name it by this.
    events: kinds of trade updates, and values of ProxyEvent.
    after: seconds for which the upstream is down before `upstream_down` is sent.
    accounts: the names of the accounts; empty for all.
    symbols, prefix: as the filters of a client have them; empty for all.
    secret: the key of the signature; None if messages are not signed.
    allow_http: connections without TLS to private addresses are allowed.
    """

    name: str
    url: ReceiverUrl | AppriseUrl = field(metadata=made_of(_URL))
    events: frozenset[str] = setting(
        f"{PREFIX}<NAME>_EVENTS",
        _parse_events,
        "fill,partial_fill,rejected,expired,trade_bust",
        "kinds of events, separated by commas; also, of the proxy itself, `upstream_down`,"
        " `upstream_up`, `gap_open`, `gap_lost`, `journal_not_durable`, `leader_changed`",
    )
    after: float = setting(
        f"{PREFIX}<NAME>_AFTER",
        seconds,
        "60",
        "seconds for which the upstream is down before `upstream_down`",
    )
    accounts: frozenset[str] = field(metadata=made_of(_ACCOUNTS))
    symbols: frozenset[str] = setting(
        f"{PREFIX}<NAME>_SYMBOLS", _parse_symbols, "", "symbols, separated by commas", _ALL, "all"
    )
    prefix: str = setting(
        f"{PREFIX}<NAME>_PREFIX",
        _parse_prefix,
        "",
        "the beginning of a `client_order_id`",
        _ALL,
        "all",
    )
    format: WebhookFormat = field(metadata=made_of(_FORMAT))
    secret: Secret | None = field(metadata=made_of(_SECRET))
    allow_http: bool = field(metadata=made_of(_ALLOW_HTTP))

    def is_for(self, account: str) -> bool:
        """Whether it is for an account, by its name."""
        return not self.accounts or account in self.accounts


SUFFIXES = tuple(
    each.name.removeprefix(f"{PREFIX}<NAME>_") for each in list_settings(WebhookSettings)
)


def is_webhook_variable(name: str) -> bool:
    """Whether `read_webhooks` reads a variable, or reports it."""
    return name.startswith(PREFIX)


def read_webhooks(
    env: Environment, accounts: Collection[str], *, demo: bool
) -> tuple[WebhookSettings, ...]:
    """Read all webhooks, sorted by their names. Problems go to `env.findings`.

    `accounts` are the names that `_ACCOUNTS` can have. With `demo` the orders are made up, so
    nothing is sent.
    """
    names = sorted(set(_find_names(env)))
    if demo:
        for name in names:
            env.warn_unused((f"{PREFIX}{name}_URL",), "by the demo, whose orders are not real")
        return ()
    if len(names) > MAX_WEBHOOKS:
        env.findings.problem(f"{PREFIX}{names[-1]}_URL: more than {MAX_WEBHOOKS} webhooks")
        return ()
    found = (_WebhookReader(env, name, accounts).read() for name in names)
    return tuple(webhook for webhook in found if webhook is not None)


def _find_names(env: Environment) -> Iterator[str]:
    for variable in filter(is_webhook_variable, env):
        match = _VARIABLE.fullmatch(variable)
        if match is None:
            env.findings.problem(
                f"{variable}: is not {PREFIX}<NAME>_<SUFFIX>, such as {PREFIX}DESK_URL;"
                " the name is [A-Z0-9]+, at most 32 characters"
            )
        elif match["suffix"].removesuffix("_FILE") not in SUFFIXES:
            prefix = f"{PREFIX}{match['name']}_"
            suggestion = env.findings.suggest(match["suffix"], SUFFIXES, prefix=prefix)
            env.findings.problem(f"{variable}: unknown variable{suggestion}")
        else:
            yield match["name"]


class _WebhookReader:
    """Reads the variables of one webhook. The names of its settings have <NAME> for its name."""

    def __init__(self, env: Environment, name: str, accounts: Collection[str]) -> None:
        self._env = env
        self._name = name
        self._accounts = accounts

    def read(self) -> WebhookSettings | None:
        """Return the webhook; None without a valid URL."""
        allow_http = _ALLOW_HTTP.read(self)
        form = _FORMAT.read(self)
        url = self._read_url(form, allow_http)
        if url is None:
            if self._source(_URL) is None:
                self._env.findings.problem(f"{PREFIX}{self._name}_URL is missing")
            return None
        if form is WebhookFormat.TELEGRAM and isinstance(url, ReceiverUrl):
            self._check_telegram(url)
        return read_fields(
            WebhookSettings,
            self,
            name=self._name,
            url=url,
            accounts=self.parse(_ACCOUNTS.name, self._parse_accounts, frozenset[str]()),
            format=form,
            secret=self._read_secret(form),
            allow_http=allow_http,
        )

    def parse(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Return the value of a variable, or of its file; the default if it is unset or invalid."""
        variable = name.replace("<NAME>", self._name)
        text = self._env.read_secret(variable)
        source = self._env.find_source(variable)
        if not text or source is None:
            return default
        if "://" in text and name != _URL.name:  # the reasons quote a value, but never a URL
            self._env.findings.problem(f"{source}: is a URL, which belongs into another variable")
            return default
        return self._env.findings.attempt(source, parse, text, default)

    def _source(self, setting: Setting[Any]) -> str | None:
        return self._env.find_source(setting.name.replace("<NAME>", self._name))

    def _read_secret(self, form: WebhookFormat) -> Secret | None:
        source = self._source(_SECRET)
        if source is not None and form is not WebhookFormat.JSON:
            self._env.findings.problem(f"{source}: only messages of the format json are signed")
            return None
        return _SECRET.read(self)

    def _read_url(self, form: WebhookFormat, allow_http: bool) -> ReceiverUrl | AppriseUrl | None:
        if form is not WebhookFormat.APPRISE:
            return self.parse(
                _URL.name, lambda text: ReceiverUrl.parse(text, allow_http=allow_http), None
            )
        if importlib.util.find_spec("apprise") is None:
            install = f"{sys.executable} -m pip install apprise"
            self._env.findings.problem(f"{self._source(_FORMAT)}: needs a library: {install}")
        return self.parse(_URL.name, AppriseUrl.parse, None)

    def _check_telegram(self, url: ReceiverUrl) -> None:
        if not url.path.reveal().endswith("/sendMessage") or "chat_id" not in dict(
            parse_qsl(url.query.reveal())
        ):
            self._env.findings.problem(
                f"{self._source(_URL)}: for telegram, the URL is"
                " https://api.telegram.org/bot<token>/sendMessage?chat_id=<id>"
            )

    def _parse_accounts(self, text: str) -> frozenset[str]:
        names = frozenset(name.lower() for name in _split(text))
        for name in sorted(names.difference(self._accounts)):
            known = ", ".join(sorted(self._accounts))
            raise ValueError(f"there is no account {name!r}; the accounts are: {known}")
        return names
