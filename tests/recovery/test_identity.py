"""Tests for identify_account in tradeproxy.recovery.backfill, against a server in memory."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from tests.support.journals import event, memory_journal
from tests.upstream.support import BASE_URL, KEYS, RestClientTestCase, keys_of, memory_agent, status
from tradeproxy.hub.account import Account
from tradeproxy.recovery.identity import identify_account, require_estimate
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.upstream.rate_limiter import RateLimiter
from tradeproxy.upstream.rest import RestClient, RestUnavailableError
from tradeproxy.wire.event import format_time

EIGHT = "Fri, 15 Jan 2027 08:00:00 GMT"
AT_EIGHT = 1_800_000_000_000_000


class IdentifyAccountTests(RestClientTestCase):
    """Alpaca's id of the account, and the time by Alpaca's clock."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = memory_journal(self.clock)
        self.addCleanup(self.journal.close)
        self.account = Account("paper", self.journal, self.clock)

    def identify(self, answer: Any) -> Deferred[Any]:
        self.answer = answer
        return self.start(identify_account(self.account, self.rest))

    def answer_id(self, account_id: Any) -> Any:
        """Return the answer that holds this account id."""
        return status(200, json.dumps({"id": account_id}).encode(), date=EIGHT)

    def test_identify_another_account_starts_new_log(self) -> None:
        """With keys of another account a new log begins, in which nothing older is missing."""
        epoch = self.journal.epoch
        self.assertEqual(self.successResultOf(self.identify(self.answer_id("one"))), AT_EIGHT)
        self.journal.append([event(1, at=format_time(AT_EIGHT + 1))])
        self.successResultOf(self.identify(self.answer_id("one")))
        self.assertEqual(
            (self.journal.epoch, self.account.completeness.complete_through), (epoch, AT_EIGHT + 1)
        )
        self.account.gaps.begin_gap()
        self.successResultOf(self.identify(self.answer_id("two")))
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual(
            (self.account.gaps.current, self.account.completeness.backfill_from), (None, AT_EIGHT)
        )

    def test_identify_invalid_id_keeps_log(self) -> None:
        """An id that SQLite cannot store, or that is not printable, is ignored."""
        self.successResultOf(self.identify(self.answer_id("one")))
        epoch = self.journal.epoch
        for account_id in ("", "\ud800", "é", "x" * 129, 7, None):
            self.assertEqual(
                self.successResultOf(self.identify(self.answer_id(account_id))), AT_EIGHT
            )
        self.successResultOf(self.identify(status(200, b"[]", date=EIGHT)))
        self.assertEqual(self.journal.epoch, epoch)

    def test_identify_rejected_returns_time(self) -> None:
        """The Date header of an error is used; the next request may succeed."""
        for code in (403, 503):
            answer = status(code, date=EIGHT)
            self.assertEqual(self.successResultOf(self.identify(answer)), AT_EIGHT)

    def test_identify_without_date_raises_unavailable(self) -> None:
        """Our own clock does not replace Alpaca's."""

        def dateless(code: int) -> Any:
            def answer(request: Request) -> bytes:
                request.setResponseCode(code)
                request.responseHeaders.removeHeader(b"date")
                return b"{}"

            return answer

        for answer in (
            dateless(200),
            dateless(403),
            dateless(503),
            status(200, b"{}", date="today"),
        ):
            self.failureResultOf(self.identify(answer), RestUnavailableError)
        self.host.refusing = True
        error = self.failureResultOf(self.identify({}), RestUnavailableError)
        self.assertEqual(error.value.reason, "cannot connect")


class UncertainClockTests(RestClientTestCase):
    """A machine whose clock is `error` seconds ahead, and an Alpaca whose Date may be wrong."""

    def setUp(self) -> None:
        super().setUp()
        self.error = 3600.0
        self.dates = Dates(self.clock.seconds, lambda: self.clock.seconds() + self.error)
        self.journal = memory_journal(self.clock, dates=self.dates)
        self.addCleanup(self.journal.close)
        self.account = Account("paper", self.journal, self.clock)
        agent = memory_agent(self.host, self.clock)
        self.rest = RestClient(
            agent, BASE_URL, keys_of(KEYS), self.clock, self.dates, RateLimiter()
        )

    def identify(self, offset: float = 0) -> Deferred[Any]:
        """Identify the account with a Date that is this many seconds ahead."""
        date = formatdate(self.clock.seconds() + offset, usegmt=True)
        self.answer = status(200, b"{}", date=date)
        return self.start(identify_account(self.account, self.rest))

    def confirm(self) -> None:
        """Let two Dates confirm each other."""
        self.dates.observe(self.clock.seconds())
        self.clock.advance(30)
        self.assertTrue(self.dates.observe(self.clock.seconds()))

    def test_identify_asks_twice_until_clock_is_known(self) -> None:
        """One Date may be wrong, and the second answer may have another one."""
        self.identify()
        self.assertEqual(len(self.page.requests), 2)
        self.confirm()
        self.identify()
        self.assertEqual(len(self.page.requests), 3)

    def test_identify_does_not_check_log(self) -> None:
        """Only a backfill knows that nothing is missing up to now."""
        self.confirm()
        checked = round(self.clock.seconds() * SECOND)
        self.account.completeness.check_through(checked)
        self.clock.advance(100)
        self.successResultOf(self.identify())
        self.assertEqual(self.account.completeness.checked_through, checked)

    def test_identify_corrects_beginning_of_log(self) -> None:
        """The log began by the machine's clock, which is ahead."""
        began = round(self.clock.seconds() * SECOND)
        self.assertEqual(self.journal.complete_from, began + 3600 * SECOND)
        self.confirm()
        self.successResultOf(self.identify())
        self.assertEqual(self.journal.complete_from, began)

    def test_identify_with_wrong_date_returns_estimate_if_own_clock_agrees(self) -> None:
        """Otherwise the estimate may be behind: its clock may have stopped in a sleep."""
        self.confirm()
        error = self.failureResultOf(self.identify(86_400), RestUnavailableError).value
        self.assertEqual((error.reason, error.retry_after), ("Alpaca's clock is not certain", 30))
        self.error = 0
        now = self.successResultOf(self.identify(86_400))
        self.assertEqual(now, round(self.clock.seconds() * SECOND))

    def test_require_estimate_raises_unless_time_agrees(self) -> None:
        """A Date half a minute later can confirm the first one."""
        now = round(self.clock.seconds() * SECOND)
        with self.assertRaises(RestUnavailableError) as raised:
            require_estimate(self.account, now)
        self.assertEqual(raised.exception.retry_after, 30)
        self.confirm()
        require_estimate(self.account, now)
        with self.assertRaises(RestUnavailableError):
            require_estimate(self.account, now - 3600 * SECOND)
