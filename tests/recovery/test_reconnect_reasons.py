"""The counters of the upstream: reconnect reasons and failures."""

from __future__ import annotations

from tests.upstream.client_case import KEYS, UpstreamTestCase
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.hub.account import RECONNECT_REASONS
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.upstream.backoff import Backoff, Disconnect, DisconnectCause
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.upstream.session import StreamListener
from tradeproxy.web.health import healthz
from tradeproxy.wire.messages import Dialect


class ReconnectReasonTests(UpstreamTestCase):
    """The reasons for reconnects, as they are counted."""

    def reason_counts(self) -> dict[str, int]:
        """Return the counts of the reasons that have occurred."""
        return {reason: count for reason, count in self.account.reconnect_reasons.items() if count}

    def test_stream_dropped_counts_lost(self) -> None:
        """Each end of a stream counts once."""
        self.advance(1)
        self.inject(FaultKind.DROP)
        self.assertEqual(self.reason_counts(), {"lost": 1})

    def test_host_down_counts_unreachable_per_attempt(self) -> None:
        """Every failed attempt counts."""
        self.advance(1)
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(10)
        attempts = len(self.wire.attempts) - 1
        self.assertGreater(attempts, 1)
        self.assertEqual(self.reason_counts(), {"lost": 1, "unreachable": attempts})

    def test_rejection_and_limit_are_counted_apart(self) -> None:
        """A person fixes one with new keys, and the other by stopping another program."""
        self.inject(FaultKind.REFUSE, count=1)
        self.advance(1)
        self.inject(FaultKind.DROP)
        self.advance(5)
        self.assertEqual(self.reason_counts(), {"lost": 1, "refused": 1})
        self.advance(90)
        self.inject(FaultKind.THROTTLE, count=1)
        self.inject(FaultKind.DROP)
        self.advance(5)
        self.assertEqual(self.reason_counts(), {"lost": 2, "refused": 1, "limited": 1})

    def test_every_disconnect_has_a_known_reason(self) -> None:
        """The number of label values is fixed."""
        kinds = {
            Disconnect(cause, "x", streamed, is_reopening=is_reopening).reconnect_reason
            for cause in DisconnectCause
            for streamed in (0.0, 1.0)
            for is_reopening in (False, True)
        }
        self.assertEqual(kinds, set(RECONNECT_REASONS))


class UpstreamFailureTests(UpstreamTestCase):
    """An error that ends all attempts."""

    def test_service_error_makes_healthz_503(self) -> None:
        """The service no longer reconnects, and /healthz asks for a restart."""

        def broken() -> float:
            raise RuntimeError("a bug")

        self.stop()
        self.assertEqual(healthz([self.account])[0], 200)
        settings = AccountSettings(
            "live",
            BaseUrl(False, "127.0.0.1", 8100),
            KEYS,
            Dialect.AUTHENTICATE,
            "ALPACA_LIVE_API_KEY",
        )
        factory = UpstreamFactory(AccountKeys(settings), self.account, StreamListener(), self.clock)
        self.wire.refusing = True
        UpstreamService(
            self.account, self.wire, factory, StreamListener(), Backoff(broken), self.clock
        ).startService()
        self.advance(0)
        [error] = self.flushLoggedErrors(RuntimeError)
        self.assertEqual(error.getErrorMessage(), "a bug")
        status, document = healthz([self.account])
        self.assertEqual((status, document["status"]), (503, "failed"))
