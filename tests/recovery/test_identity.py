"""Tests for tradeproxy.recovery.backfill, against a page in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from tests.support.journals import event, memory_journal, time_of
from tests.upstream.support import RestTestCase, status
from tradeproxy.hub.account import Account
from tradeproxy.recovery.backfill import identify_account
from tradeproxy.upstream.rest import RestUnavailableError

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
AT_NOON = 784_123_200_000_000


class IdentityTests(RestTestCase):
    """Whose account it is, and what time it is at Alpaca."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = memory_journal(self.clock)
        self.addCleanup(self.journal.close)
        self.account = Account("paper", self.journal, self.clock)

    def ask(self, answer: Any) -> Deferred[Any]:
        self.answer = answer
        return self.start(identify_account(self.account, self.rest))

    def account_of(self, account_id: Any) -> Any:
        """Return the answer that this is the account's id."""
        return status(200, json.dumps({"id": account_id}).encode(), date=NOON)

    def test_notes_whose_log_it_is(self) -> None:
        """With other keys it begins anew, and nothing older is missing."""
        epoch = self.journal.epoch
        self.assertEqual(self.successResultOf(self.ask(self.account_of("one"))), AT_NOON)
        self.journal.append([event(1)])
        self.successResultOf(self.ask(self.account_of("one")))
        self.assertEqual(
            (self.journal.epoch, self.account.gaps.complete_through), (epoch, time_of(1))
        )
        self.account.gaps.begin_gap()
        self.successResultOf(self.ask(self.account_of("two")))
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual(
            (self.account.gaps.current, self.account.gaps.backfill_from), (None, AT_NOON)
        )

    def test_an_id_that_can_be_none_is_ignored(self) -> None:
        """What SQLite would not take, or nobody could read, least of all."""
        self.successResultOf(self.ask(self.account_of("one")))
        epoch = self.journal.epoch
        for account_id in ("", "\ud800", "é", "x" * 129, 7, None):
            self.assertEqual(self.successResultOf(self.ask(self.account_of(account_id))), AT_NOON)
        self.successResultOf(self.ask(status(200, b"[]", date=NOON)))
        self.assertEqual(self.journal.epoch, epoch)

    def test_a_refusal_tells_the_time_too(self) -> None:
        """The question that follows may be answered."""
        for code in (403, 503):
            self.assertEqual(self.successResultOf(self.ask(status(code, date=NOON))), AT_NOON)

    def test_our_own_clock_is_not_alpacas(self) -> None:
        """Without a date there is no time."""

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
            self.failureResultOf(self.ask(answer), RestUnavailableError)
        self.host.refusing = True
        self.failureResultOf(self.ask({}), RestUnavailableError)
