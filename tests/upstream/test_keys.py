"""Tests for tradeproxy.upstream.keys: keys that are replaced while the proxy runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.upstream.client_case import UpstreamTestCase
from tests.upstream.support import RestClientTestCase
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.rest import RestRefusedError
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import Dialect

FIRST = KeyPair(Secret("PKFIRST"), Secret("first-secret"))
SECOND = KeyPair(Secret("PKSECOND"), Secret("second-secret"))
SETTINGS = AccountSettings(
    "paper",
    BaseUrl.parse("http://127.0.0.1:8100"),
    FIRST,
    Dialect.AUTHENTICATE,
    "ALPACA_API_KEY_FILE",
)


class RefusedLoginTests(UpstreamTestCase):
    """The simulator refuses logins until `allow` is called; the files have the keys `newest`."""

    def build_service(self) -> UpstreamService:
        self.newest = self.upstream_factory.keys.settings
        self.readings = 0
        self.upstream_factory.keys = AccountKeys(self.newest, self.read)
        service = super().build_service()
        self.alpaca.inject(Fault(FaultKind.REFUSE, message="wrong key", seconds=3600))
        return service

    def read(self) -> tuple[AccountSettings, ...]:
        self.readings += 1
        return (replace(SETTINGS, name="other"), self.newest)

    def rotate(self) -> None:
        """Write other keys to the files."""
        self.newest = replace(self.newest, credentials=SECOND)

    def allow(self) -> None:
        """Accept logins again."""
        self.alpaca.end_faults(FaultKind.REFUSE)

    def test_key_rotated_while_waiting_is_used_at_the_next_attempt(self) -> None:
        """It is read just before that."""
        self.rotate()
        self.allow()
        self.advance(59)
        self.assertFalse(self.alpaca.listening)
        self.advance(2)
        self.assertEqual(self.upstream_factory.keys.credentials, SECOND)
        self.assertTrue(self.alpaca.listening)

    def test_refusal_with_new_keys_in_the_files_is_no_wait(self) -> None:
        """The files changed while the stream was up. Each rotation would cost a minute of it."""
        self.allow()
        self.advance(61)
        self.assertTrue(self.alpaca.listening)
        self.rotate()
        attempts = len(self.wire.attempts)
        self.alpaca.inject(Fault(FaultKind.REFUSE, message="wrong key", seconds=3600))
        self.alpaca.inject(Fault(FaultKind.DROP))
        with capturedLogs() as logs:
            self.advance(2)
        text = "live: the keys were replaced, as Alpaca refused the old ones"
        self.assertEqual([formatEvent(event) for event in logs].count(text), 1)
        self.assertEqual(self.upstream_factory.keys.credentials, SECOND)
        self.assertEqual(len(self.wire.attempts) - attempts, 2)  # the old keys, then the new ones
        self.advance(10)
        self.assertEqual(len(self.wire.attempts) - attempts, 2)

    def test_reload_with_new_keys_ends_the_wait(self) -> None:
        """Who has corrected a key need not wait for a minute."""
        self.allow()
        self.advance(5)
        keys = self.upstream_factory.keys
        self.assertTrue(keys.replace([replace(keys.settings, credentials=SECOND)]))
        keys.on_change()
        self.advance(0)
        self.assertTrue(self.alpaca.listening)
        keys.on_change()  # while the stream is up, it changes nothing
        self.advance(1)
        self.assertEqual(len(self.wire.attempts), 2)

    def test_keys_replaced_before_the_answer_are_used_at_once(self) -> None:
        """The refusal is of the old ones, which a reload replaced while Alpaca was asked."""
        self.clock.advance(61)  # the second attempt; none of its bytes has moved
        self.assertEqual(len(self.wire.attempts), 2)
        self.rotate()
        self.assertTrue(self.upstream_factory.keys.replace([self.newest]))
        self.advance(0.5)
        self.assertEqual(len(self.wire.attempts), 3)
        self.advance(30)
        self.assertEqual(len(self.wire.attempts), 3)

    def test_keys_of_another_account_open_the_stream_again_at_once(self) -> None:
        """Requests have the new keys already. The request that finds it is not cancelled by it."""
        self.allow()
        self.advance(61)
        self.account.identify("first")
        self.account.identify("second")  # with the keys of the stream, which stays
        self.advance(5)
        self.assertEqual(len(self.wire.attempts), 2)
        self.rotate()
        self.assertTrue(self.upstream_factory.keys.replace([self.newest]))
        self.account.identify("third")
        self.assertTrue(self.alpaca.listening)
        self.advance(0.5)
        self.assertEqual(len(self.wire.attempts), 3)
        self.assertTrue(self.alpaca.listening)
        self.account.identify("fourth")
        self.advance(5)
        self.assertEqual(len(self.wire.attempts), 3)

    def test_stop_ends_the_wait(self) -> None:
        """No attempt follows."""
        self.successResultOf(self.service.stopService() or self.fail())
        self.advance(200)
        self.assertEqual(len(self.wire.attempts), 1)

    def test_other_failures_read_nothing(self) -> None:
        """Alpaca may be down for hours, and the keys be right."""
        self.allow()
        self.advance(61)
        readings = self.readings
        self.wire.refusing = True
        self.alpaca.inject(Fault(FaultKind.DROP))
        self.advance(200)
        self.assertEqual(self.readings, readings)


class ReplaceTests(RestClientTestCase):
    """The keys alone, and in requests."""

    def build_keys(self) -> AccountKeys:
        self.newest = SETTINGS
        self.keys = AccountKeys(SETTINGS, lambda: [self.newest])
        return self.keys

    def get(self) -> Any:
        return self.start(self.rest.get("/v2/account"))

    refusal = 401

    def answer_by_key(self, request: Request) -> bytes:
        """Accept the second keys only."""
        if request.getHeader("APCA-API-KEY-ID") != "PKSECOND":
            request.setResponseCode(self.refusal)
        return b"{}"

    def test_request_is_sent_again_with_new_keys(self) -> None:
        """The stream stays up with the old ones, and the history would be refused.

        Alpaca answers 401, or 403 `forbidden.`, to a wrong key.
        """
        self.answer = self.answer_by_key
        for self.refusal in (401, 403):
            self.keys.settings = SETTINGS
            self.newest = replace(SETTINGS, credentials=SECOND)
            self.page.requests.clear()
            self.successResultOf(self.get())
            self.assertEqual(len(self.page.requests), 2)

    def test_request_refused_with_keys_of_before_a_reload_is_sent_again(self) -> None:
        """The reload came after the request, and before its answer."""

        def reload_and_answer(request: Request) -> bytes:
            self.newest = replace(SETTINGS, credentials=SECOND)
            self.keys.replace([self.newest])
            return self.answer_by_key(request)

        self.answer = reload_and_answer
        self.successResultOf(self.get())
        self.assertEqual(len(self.page.requests), 2)

    def test_refused_request_is_final_without_new_keys(self) -> None:
        """It is not sent again."""
        self.answer = self.answer_by_key
        self.failureResultOf(self.get(), RestRefusedError)
        self.assertEqual(len(self.page.requests), 1)

    def test_keys_of_another_server_are_not_taken(self) -> None:
        """Another URL needs a restart, and so does another login message."""
        for other in (
            replace(SETTINGS, credentials=SECOND, base_url=BaseUrl.parse("https://x.example")),
            replace(SETTINGS, credentials=SECOND, dialect=Dialect.AUTH),
            replace(SETTINGS, credentials=SECOND, name="desk"),
        ):
            self.newest = other
            self.assertFalse(self.keys.have_replaced(FIRST))
            self.assertEqual(self.keys.settings, SETTINGS)

    def test_token_may_replace_a_pair(self) -> None:
        """Messages then name the variable of the token."""
        self.newest = replace(
            SETTINGS, credentials=OAuthToken(Secret("x")), key_variable="ALPACA_OAUTH_TOKEN"
        )
        self.assertTrue(self.keys.have_replaced(FIRST))
        self.assertEqual(self.keys.settings, self.newest)
