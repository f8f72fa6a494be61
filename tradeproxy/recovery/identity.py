"""Whose account it is, and what time it is at Alpaca: the first that is asked, whatever else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tradeproxy.recovery.reconcile import is_id
from tradeproxy.upstream.rest import RefusedError, UnavailableError

if TYPE_CHECKING:
    from tradeproxy.hub.account import Account
    from tradeproxy.upstream.rest import RestClient


async def identify(account: Account, rest: RestClient) -> int:
    """Note whose log this is from now on, and return the time by Alpaca's clock.

    That is in microseconds, cut to whole seconds, and may be the time of a refusal. Our own clock does not
    do for it: raises UnavailableError where Alpaca's cannot be had.
    """
    try:
        answer = await rest.get("/v2/account")
    except RefusedError as error:
        return _time(error.date)
    except UnavailableError as error:
        if error.date is None:
            raise
        return _time(error.date)
    now = _time(answer.date)
    match answer.document:
        case {"id": account_id} if is_id(account_id):
            account.identify(account_id)
    if account.gaps.known_through is None:
        account.gaps.start_over(now)
    return now


def _time(date: float | None) -> int:
    if date is None:
        raise UnavailableError("an answer without a date")
    return round(date) * 1_000_000
