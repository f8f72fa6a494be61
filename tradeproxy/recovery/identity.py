"""Who the account is at Alpaca, and what time it is there."""

from __future__ import annotations

from tradeproxy.hub.account import Account
from tradeproxy.recovery.reconcile import is_id
from tradeproxy.runtime.dates import CONFIRM_AFTER, SECOND
from tradeproxy.upstream.rest import (
    RestClient,
    RestRefusedError,
    RestResponse,
    RestUnavailableError,
)


async def identify_account(account: Account, rest: RestClient) -> int:
    """Record Alpaca's id of the account, and return the time by Alpaca's clock.

    The time is in microseconds, truncated to whole seconds. It is from the Date header, which a
    rejection has too. Our own clock is no substitute: a difference would hide missed events. The
    header may be wrong: see `require_estimate`. Raises RestUnavailableError if there is no date.
    """
    answer = await _ask_account(rest)
    if account.dates.alpaca() is None:
        # The Date or this machine's clock is wrong. A second Date shows whether the first one was.
        answer = await _ask_account(rest)
    account.correct_times()
    now = _read_now(account, answer.date)
    match answer.document:
        case {"id": account_id} if is_id(account_id):
            account.identify(account_id)
    if account.completeness.complete_through is None and account.dates.is_right(now / SECOND):
        # `identify` has begun another account's log: no older event is missing.
        account.completeness.check_through(now)
    return now


def require_estimate(account: Account, now: int) -> None:
    """Raise RestUnavailableError unless `now` agrees with the estimate of Alpaca's clock.

    Events that were found up to `now` are delivered in any case. But a log that counts as complete
    up to a wrong time would hide missed events.
    """
    if not account.dates.is_right(now / SECOND):
        raise RestUnavailableError("Alpaca's clock is not known yet", CONFIRM_AFTER)


async def _ask_account(rest: RestClient) -> RestResponse:
    """Return the account; only the date, if Alpaca answers with an error that has one."""
    try:
        return await rest.get("/v2/account")
    except RestRefusedError as error:
        return RestResponse(None, error.date)
    except RestUnavailableError as error:
        if error.date is None:
            raise
        return RestResponse(None, error.date)


def _read_now(account: Account, date: float | None) -> int:
    """Return the time of an answer, or the estimate of it if its Date is wrong.

    Raises RestUnavailableError if neither is certain: the estimate is behind if the clock of
    intervals has stopped while the machine slept.
    """
    dates = account.dates
    if date is None:
        raise RestUnavailableError("an answer without a date")
    if (alpaca := dates.alpaca()) is not None and not dates.is_right(date):
        if not dates.is_right(dates.own()):
            raise RestUnavailableError("Alpaca's clock is not certain", CONFIRM_AFTER)
        date = alpaca
    return int(date) * SECOND
