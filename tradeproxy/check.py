"""`tradeproxy check`: what the settings say, and whether Alpaca lets each account in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from tradeproxy import listen
from tradeproxy.hub.account import Account
from tradeproxy.upstream.client import UpstreamFactory, UpstreamProtocol, upstream_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tradeproxy.accounts import AccountSettings
    from tradeproxy.settings import Settings


def report(settings: Settings) -> Iterator[str]:
    """Yield what the settings come to, a line each; secrets are counted, never shown."""
    for description in settings.listen:
        problems = listen.bind_problems((description,))
        yield f"listen: {listen.url(description)}" + (f" ({problems[0]})" if problems else "")
    yield f"tokens: {len(settings.tokens) or 'none: every local client is let in'}"
    for kind, values in (("hosts", settings.allowed_hosts), ("origins", settings.allowed_origins)):
        if values:
            yield f"further {kind}: {', '.join(values)}"
    yield from (f"warning: {warning}" for warning in settings.warnings)


async def check_accounts(settings: Settings, reactor: Any) -> tuple[tuple[str, bool], ...]:
    """Try each account's login, one after the other; return a line on each, and whether it is well."""
    results = []
    for account in settings.accounts:
        problem = await _try_login(account, reactor)
        line = f"{account.name}: {account.base_url.stream}: {problem or 'logged in'}"
        results.append((line, problem is None))
    return tuple(results)


async def _try_login(account: AccountSettings, reactor: Any) -> str | None:
    """Connect to an account's stream as the proxy would, and leave; return what went wrong, or None."""
    probe = _Probe(account.name, reactor)
    try:
        protocol = await upstream_endpoint(account.base_url, reactor).connect(
            UpstreamFactory(account, probe, reactor)
        )
    except Exception as error:
        return f"cannot connect: {error}"
    assert isinstance(protocol, UpstreamProtocol)
    probe.up.addCallback(lambda _: protocol.leave())
    ending = await protocol.ended
    return None if probe.up.called else ending.reason


class _Probe(Account):
    """An account that only waits for its stream to be up."""

    def __init__(self, name: str, clock: Any) -> None:
        super().__init__(name, clock)
        self.up: Deferred[None] = Deferred()

    def upstream_is_up(self) -> None:
        super().upstream_is_up()
        self.up.callback(None)
