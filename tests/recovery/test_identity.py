"""Tests for identify_account in tradeproxy.recovery.backfill, against a server in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from tests.support.journals import event, memory_journal
from tests.upstream.support import RestClientTestCase, status
from tradeproxy.hub.account import Account
from tradeproxy.recovery.identity import identify_account
from tradeproxy.upstream.rest import RestUnavailableError
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
            (self.journal.epoch, self.account.gaps.complete_through), (epoch, AT_EIGHT + 1)
        )
        self.account.gaps.begin_gap()
        self.successResultOf(self.identify(self.answer_id("two")))
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual(
            (self.account.gaps.current, self.account.gaps.backfill_from), (None, AT_EIGHT)
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
        self.failureResultOf(self.identify({}), RestUnavailableError)
