"""`tradeproxy check`: what the settings say, and whether Alpaca lets each account in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred

from tradeproxy.config import endpoints
from tradeproxy.hub.account import Account
from tradeproxy.journal.file import check_journal
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.upstream.client import UpstreamFactory, UpstreamProtocol, upstream_endpoint
from tradeproxy.upstream.session import StreamListener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tradeproxy.config.accounts import AccountSettings
    from tradeproxy.config.settings import Settings
    from tradeproxy.config.storage import RedisSettings


class CheckResult(NamedTuple):
    """A line for the user, and whether what it tells is well."""

    line: str
    well: bool = True


def check_settings(settings: Settings) -> Iterator[CheckResult]:
    """Yield what the settings come to; secrets are counted, never shown."""
    for description in settings.listen:
        problems = endpoints.find_bind_problems((description,), reuse_port=settings.reuse_port)
        # Most likely it is in use by the proxy that is being checked.
        well = all(problem.endswith("is in use") for problem in problems)
        yield CheckResult(
            " ".join(
                (
                    f"listen: {endpoints.format_url(description)}",
                    *(f"({problem})" for problem in problems),
                )
            ),
            well,
        )
    everyone = (
        "every client of this machine"
        if all(map(endpoints.is_local, settings.listen))
        else "everyone"
    )
    yield CheckResult(f"tokens: {len(settings.tokens) or f'none: {everyone} is let in'}")
    for kind, values in (("hosts", settings.allowed_hosts), ("origins", settings.allowed_origins)):
        if values:
            yield CheckResult(f"further {kind}: {', '.join(values)}")
    yield from _check_journals(settings)
    yield from (CheckResult(f"warning: {warning}") for warning in settings.warnings)


def _check_journals(settings: Settings) -> Iterator[CheckResult]:
    kept = settings.journal
    yield CheckResult(f"events are kept in {settings.storage_label}")
    for path in (kept.path(account.name) for account in settings.accounts):
        problem = None if path is None else check_journal(path)
        if problem is not None:
            # Most likely it is in use by the proxy that is being checked.
            yield CheckResult(f"{kept.source}: {problem}", well=problem.endswith("uses it"))


async def check_redis(redis: RedisSettings, reactor: Any) -> CheckResult:
    """Find out whether the Redis that holds the log lets us in, and is new enough."""
    from tradeproxy.cluster.redis_client import (
        probe_redis,
    )  # an extra, which only these proxies pay for

    problem = await probe_redis(redis, reactor)
    return CheckResult(f"{redis.label}: {problem or 'reached'}", problem is None)


async def check_login(account: AccountSettings, reactor: Any) -> CheckResult:
    """Find out whether Alpaca lets the account in."""
    problem = await _try_login(account, reactor)
    return CheckResult(
        f"{account.name}: {account.base_url.stream}: {problem or 'logged in'}", problem is None
    )


async def _try_login(account: AccountSettings, reactor: Any) -> str | None:
    """Connect to an account's stream as the proxy would, and leave; return what went wrong, or None."""
    journal = SqliteJournal(  # in memory, for the events that come meanwhile
        account.name,
        None,
        reactor,
        base_url=account.base_url.stream,
        full_sync=False,
        max_age=60,
        max_events=1,
    )
    journal.open()
    try:
        return await _log_in(account, Account(account.name, journal, reactor), reactor)
    finally:
        journal.close()


async def _log_in(settings: AccountSettings, account: Account, reactor: Any) -> str | None:
    probe = _Probe()
    try:
        protocol = await upstream_endpoint(settings.base_url, reactor).connect(
            UpstreamFactory(settings, account, probe, reactor)
        )
    except Exception as error:
        return f"cannot connect: {error}"
    assert isinstance(protocol, UpstreamProtocol)
    probe.up.addCallback(lambda _: protocol.close())
    ending = await protocol.disconnected
    return None if probe.up.called else ending.reason


class _Probe(StreamListener):
    """Only waits for the stream to be up."""

    def __init__(self) -> None:
        self.up: Deferred[None] = Deferred()

    def stream_up(self) -> None:
        self.up.callback(None)
