"""What the upstream's troubles and reads leave to be counted, against the simulator."""

from __future__ import annotations

from tests.upstream.test_client import EVENT, KEYS, UpstreamTestCase
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.hub.account import RECONNECT_REASONS
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.upstream.backoff import Backoff, Disconnect, DisconnectCause
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.upstream.session import StreamListener
from tradeproxy.web.health import healthz
from tradeproxy.wire.messages import Dialect


class SetbackTests(UpstreamTestCase):
    """Why Alpaca had to be tried again."""

    def counted(self) -> dict[str, int]:
        """Return the reasons that have occurred."""
        return {reason: count for reason, count in self.account.reconnect_reasons.items() if count}

    def test_a_stream_that_ends_is_lost(self) -> None:
        """Once for each end."""
        self.advance(1)
        self.inject(FaultKind.DROP)
        self.assertEqual(self.counted(), {"lost": 1})

    def test_no_stream_is_reached_at_a_host_that_is_down(self) -> None:
        """Every attempt counts."""
        self.advance(1)
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(10)
        attempts = len(self.wire.attempts) - 1
        self.assertGreater(attempts, 1)
        self.assertEqual(self.counted(), {"lost": 1, "unreachable": attempts})

    def test_what_alpaca_refuses_is_told_apart(self) -> None:
        """People mend the one with new keys, the other by stopping another program."""
        self.inject(FaultKind.REFUSE, count=1)
        self.advance(1)
        self.inject(FaultKind.DROP)
        self.advance(5)
        self.assertEqual(self.counted(), {"lost": 1, "refused": 1})
        self.advance(90)
        self.inject(FaultKind.THROTTLE, count=1)
        self.inject(FaultKind.DROP)
        self.advance(5)
        self.assertEqual(self.counted(), {"lost": 2, "refused": 1, "limited": 1})

    def test_every_end_is_one_of_a_few(self) -> None:
        """What is counted by it cannot grow."""
        kinds = {
            Disconnect(cause, "x", streamed).reconnect_reason
            for cause in DisconnectCause
            for streamed in (0.0, 1.0)
        }
        self.assertEqual(kinds, set(RECONNECT_REASONS))


class FailureTests(UpstreamTestCase):
    """The end of all attempts."""

    def test_after_an_error_of_our_own_a_restart_would_help(self) -> None:
        """Nobody tries any more, which is what /healthz is for."""

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
        factory = UpstreamFactory(settings, self.account, StreamListener(), self.clock)
        self.wire.refusing = True
        UpstreamService(
            self.account, self.wire, factory, StreamListener(), Backoff(broken), self.clock
        ).startService()
        self.advance(0)
        [error] = self.flushLoggedErrors(RuntimeError)
        self.assertEqual(error.getErrorMessage(), "a bug")
        status, document = healthz([self.account])
        self.assertEqual((status, document["status"]), (503, "failed"))


class ReadTests(UpstreamTestCase):
    """When an event came."""

    def test_an_event_came_when_it_was_read(self) -> None:
        """The wait for older ones is part of what its delivery takes."""
        self.account.start_buffering()
        self.alpaca.emit(EVENT)
        self.advance(0)
        self.advance(3)
        self.account.stop_buffering()
        self.advance(0)
        self.assertEqual(len(self.subscriber.events), 1)
        self.assertAlmostEqual(self.account.latency.total, 3, places=3)
