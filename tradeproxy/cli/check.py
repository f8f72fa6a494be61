"""`tradeproxy check`: report the resulting settings, and try to log in to each account.

It reports what would prevent a start, such as a port or a journal that a running proxy has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from twisted.internet.defer import Deferred

from tradeproxy.config import endpoints
from tradeproxy.config.accounts import AccountSettings
from tradeproxy.config.command import name_command
from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.config.settings import Settings
from tradeproxy.config.storage import RedisSettings
from tradeproxy.hub.account import Account
from tradeproxy.journal.access import find_access_warnings
from tradeproxy.journal.file import check_journal, read_header
from tradeproxy.journal.schema import MIGRATIONS
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.runtime.dates import Dates
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.upstream.client import UpstreamFactory, UpstreamProtocol, upstream_endpoint
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.session import StreamListener
from tradeproxy.wire.credentials import Secret


class CheckResult(NamedTuple):
    """One line of output. If one is not `ok`, the exit status is 1."""

    line: str
    ok: bool = True


def check_settings(settings: Settings) -> Iterator[CheckResult]:
    """Yield one result for each group of settings. Secrets are counted, never shown."""
    for description in settings.listen:
        line = f"listen: {endpoints.format_url(description)}"
        problems = endpoints.find_bind_problems((description,), reuse_port=settings.reuse_port)
        for problem in problems:
            hint = ": stop the proxy that runs there" if "is in use" in problem else ""
            line += f" ({problem}{hint})"
        yield CheckResult(line, not problems)
    place = " on this machine" if all(map(endpoints.is_local, settings.listen)) else ""
    yield CheckResult(f"tokens: {len(settings.tokens) or f'none: any client{place} can connect'}")
    for kind, values in (
        ("additional hosts", settings.allowed_hosts),
        ("additional origins", settings.allowed_origins),
        ("trusted reverse proxies", settings.trusted_proxies),
    ):
        if values:
            yield CheckResult(f"{kind}: {', '.join(values)}")
    if settings.connect_proxy is not None:
        proxy = settings.connect_proxy
        yield CheckResult(f"HTTP proxy on the way to Alpaca: {proxy.label} ({proxy.source})")
    for webhook in settings.webhooks:
        events = ", ".join(sorted(webhook.events))
        yield CheckResult(f"webhook {webhook.name}: {events}, as {webhook.format.value}")
    yield from _check_journals(settings)
    yield from (CheckResult(f"warning: {warning}") for warning in settings.warnings)


def check_client_token(settings: Settings, token: str) -> Iterator[CheckResult]:
    """Yield a warning if `token`, from PROXY_TOKEN, does not fit the proxy's own tokens.

    PROXY_TOKEN is for the commands that connect to a proxy. "" means that it is not set.
    """
    if not token:
        return
    if not settings.tokens:
        yield CheckResult(
            f"warning: PROXY_TOKEN: only `{name_command('tail')}` and `status` use it;"
            " PROXY_TOKENS is what protects the proxy"
        )
    elif Secret(token) not in settings.tokens:
        yield CheckResult("warning: PROXY_TOKEN: is not one of PROXY_TOKENS")


def _check_journals(settings: Settings) -> Iterator[CheckResult]:
    journal = settings.journal
    yield CheckResult(f"events are kept in {settings.storage_label}")
    if settings.trade_log is not None:
        yield CheckResult(f"the trade log is in {settings.trade_log.directory}")
    paths = (journal.path(account.name) for account in settings.accounts)
    for path in filter(None, paths):
        problem = check_journal(path)
        if problem is not None:
            yield CheckResult(f"{journal.source}: {problem}", ok=False)
        elif (header := read_header(path)) is not None:
            yield CheckResult(f"{path}: {_describe_schema(header.version)}")
        for warning in find_access_warnings(path):
            yield CheckResult(f"warning: {journal.source}: {warning}")


def _describe_schema(version: int) -> str:
    known = len(MIGRATIONS)
    upgrade = "" if version == known else f"; the next start upgrades it to version {known}"
    return f"schema version {version}{upgrade}"


async def check_redis(redis: RedisSettings, reactor: Reactor) -> CheckResult:
    """Check that Redis accepts a connection and the login, and that its version is supported."""
    # Imported here because txredisapi is an optional dependency (the extra "redis").
    from tradeproxy.cluster.redis_client import probe_redis

    problem = await probe_redis(redis, reactor)
    return CheckResult(f"{redis.label}: {problem or 'connected'}", problem is None)


async def check_login(
    account: AccountSettings, reactor: Reactor, proxy: ConnectProxy | None
) -> CheckResult:
    """Check that Alpaca accepts the credentials, through the HTTP proxy of the environment.

    This uses the account's one connection: if a proxy is connected, Alpaca rejects the attempt.
    """
    # Events can arrive before the close. They go into memory: the files belong to the proxy.
    journal = SqliteJournal(
        account.name,
        None,
        reactor,
        Dates(reactor.seconds, time.time),
        base_url=account.base_url.stream,
        full_sync=False,
        max_age=60,
        max_events=1,
    )
    journal.open()
    try:
        problem = await _log_in(account, Account(account.name, journal, reactor), reactor, proxy)
    finally:
        journal.close()
    line = f"{account.name}: {account.base_url.stream}: {problem or 'logged in'}"
    return CheckResult(line, problem is None)


async def _log_in(
    settings: AccountSettings, account: Account, reactor: Reactor, proxy: ConnectProxy | None
) -> str | None:
    """Log in to an account's stream and close it; return the problem, or None if there is none."""
    probe = _Probe()
    try:
        protocol = await upstream_endpoint(settings.base_url, reactor, proxy).connect(
            UpstreamFactory(AccountKeys(settings), account, probe, reactor)
        )
    except Exception as error:
        return f"cannot connect: {describe_connect_error(error)}"
    assert isinstance(protocol, UpstreamProtocol)
    probe.up.addCallback(lambda _: protocol.close())
    disconnect = await protocol.disconnected
    if probe.up.called:
        return None
    return disconnect.reason + (f": {disconnect.quote}" if disconnect.quote else "")


class _Probe(StreamListener):
    """A listener that waits for the stream to be up."""

    def __init__(self) -> None:
        self.up: Deferred[None] = Deferred()

    def stream_up(self) -> None:
        self.up.callback(None)
