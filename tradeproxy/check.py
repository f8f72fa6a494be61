"""`tradeproxy check`: what the settings say, and whether Alpaca lets each account in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred

from tradeproxy import listen
from tradeproxy.hub.account import Account
from tradeproxy.upstream.client import UpstreamFactory, UpstreamProtocol, upstream_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tradeproxy.accounts import AccountSettings
    from tradeproxy.settings import Settings


class Finding(NamedTuple):
    """A line for the user, and whether what it tells is well."""

    line: str
    well: bool = True


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Yield what the settings come to; secrets are counted, never shown."""
    for description in settings.listen:
        problems = listen.bind_problems((description,))
        # Most likely it is in use by the proxy that is being checked.
        well = all(problem.endswith("is in use") for problem in problems)
        yield Finding(
            " ".join((f"listen: {listen.url(description)}", *(f"({problem})" for problem in problems))), well
        )
    everyone = "every client of this machine" if all(map(listen.is_local, settings.listen)) else "everyone"
    yield Finding(f"tokens: {len(settings.tokens) or f'none: {everyone} is let in'}")
    for kind, values in (("hosts", settings.allowed_hosts), ("origins", settings.allowed_origins)):
        if values:
            yield Finding(f"further {kind}: {', '.join(values)}")
    yield from (Finding(f"warning: {warning}") for warning in settings.warnings)


async def check_login(account: AccountSettings, reactor: Any) -> Finding:
    """Find out whether Alpaca lets the account in."""
    problem = await _try_login(account, reactor)
    return Finding(f"{account.name}: {account.base_url.stream}: {problem or 'logged in'}", problem is None)


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
