"""Tests for tradeproxy.upstream.backoff."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.hub.account import RECONNECT_REASONS
from tradeproxy.upstream.backoff import Backoff, Disconnect, DisconnectCause, parse_retry_after

LOST = Disconnect(DisconnectCause.LOST, "connection lost")
CLEAN = Disconnect(DisconnectCause.LOST, "closed by Alpaca with code 1000")
REFUSED = Disconnect(DisconnectCause.REFUSED, "login refused")
LIMITED = Disconnect(DisconnectCause.LIMITED, "HTTP 429 at the handshake")

CEILINGS = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
"""Seconds: the maximum jitter after the first, second, … failure in a row."""


def new_backoff(random: float) -> Backoff:
    """Return a Backoff whose random source always returns `random`."""
    return Backoff(lambda: random)


class BackoffTests(SynchronousTestCase):
    """The delay before the next attempt."""

    def test_delay_repeated_losses_doubles_ceiling_to_60_s(self) -> None:
        """The delay is a random part of a ceiling that starts at 1 s and doubles to 60 s."""
        for random in (0.0, 0.5, 1.0):
            backoff = new_backoff(random)
            delays = [backoff.delay_after(LOST) for _ in CEILINGS]
            self.assertEqual(delays, [random * ceiling for ceiling in CEILINGS], random)

    def test_delay_repeated_clean_closes_grows(self) -> None:
        """A server that closes cleanly in a loop is not dialed in a tight loop."""
        backoff = new_backoff(1.0)
        self.assertEqual([backoff.delay_after(CLEAN) for _ in CEILINGS], CEILINGS)

    def test_delay_each_failure_draws_new_jitter(self) -> None:
        """Two proxies that lost Alpaca together do not reconnect together."""
        backoff = Backoff(iter([0.25, 0.75, 0.5]).__next__)
        self.assertEqual([backoff.delay_after(LOST) for _ in range(3)], [0.25, 1.5, 2.0])

    def test_delay_refused_or_limited_adds_jitter_to_floor(self) -> None:
        """A rejected key waits at least 60 s, a taken slot 90 s; the jitter is added."""
        table = {
            "refused, no jitter": (REFUSED, 0.0, [60.0, 60.0, 60.0]),
            "refused, half": (REFUSED, 0.5, [60.5, 61.0, 62.0]),
            "refused, all": (REFUSED, 1.0, [61.0, 62.0, 64.0]),
            "limited, no jitter": (LIMITED, 0.0, [90.0, 90.0, 90.0]),
            "limited, half": (LIMITED, 0.5, [90.5, 91.0, 92.0]),
            "limited, all": (LIMITED, 1.0, [91.0, 92.0, 94.0]),
        }
        for name, (disconnect, random, delays) in table.items():
            backoff = new_backoff(random)
            self.assertEqual([backoff.delay_after(disconnect) for _ in delays], delays, name)

    def test_delay_lost_after_limited_has_no_floor(self) -> None:
        """The floor applies to one delay only; the ceiling keeps growing."""
        backoff = new_backoff(1.0)
        delays = [
            backoff.delay_after(disconnect) for disconnect in (LOST, LIMITED, LOST, REFUSED, LOST)
        ]
        self.assertEqual(delays, [1.0, 92.0, 4.0, 68.0, 16.0])

    def test_delay_retry_after_replaces_floor(self) -> None:
        """Retry-After replaces the floor, whether it is shorter or longer; the jitter is added."""
        for cause in (DisconnectCause.LOST, DisconnectCause.LIMITED):
            for seconds in (0.0, 5.0, 300.0):
                disconnect = Disconnect(cause, "HTTP 429", retry_after=seconds)
                self.assertEqual(new_backoff(0.0).delay_after(disconnect), seconds, cause)
                self.assertEqual(new_backoff(1.0).delay_after(disconnect), seconds + 1.0, cause)

    def test_delay_refused_with_short_retry_after_keeps_60_s(self) -> None:
        """Retry-After only raises the floor of a rejected key: a person has to replace the key."""
        for seconds, delay in {1.0: 60.0, 300.0: 300.0}.items():
            disconnect = Disconnect(DisconnectCause.REFUSED, "HTTP 401", retry_after=seconds)
            self.assertEqual(new_backoff(0.0).delay_after(disconnect), delay)

    def test_delay_after_60_s_of_streaming_resets_ceiling(self) -> None:
        """A shorter session does not reset the ceiling."""
        table = {0.0: 8.0, 1.0: 8.0, 59.9: 8.0, 60.0: 1.0, 86_400.0: 1.0}
        for streamed, delay in table.items():
            backoff = new_backoff(1.0)
            for _ in range(3):
                backoff.delay_after(LOST)
            disconnect = Disconnect(DisconnectCause.LOST, "connection lost", streamed=streamed)
            self.assertEqual(backoff.delay_after(disconnect), delay, streamed)

    def test_delay_after_reset_grows_again(self) -> None:
        """The failure of a stable session is the first of a new series."""
        backoff = new_backoff(1.0)
        for _ in CEILINGS:
            backoff.delay_after(LOST)
        backoff.delay_after(Disconnect(DisconnectCause.LOST, "connection lost", streamed=3600.0))
        self.assertEqual([backoff.delay_after(LOST) for _ in range(3)], [2.0, 4.0, 8.0])


class DisconnectTests(SynchronousTestCase):
    """How a disconnect is counted."""

    def test_reconnect_reason_of_each_disconnect(self) -> None:
        """`lost` and `unreachable` differ in whether the stream was up."""
        table = {
            "unreachable": LOST,
            "lost": replace(LOST, streamed=0.5),
            "refused": replace(REFUSED, streamed=0.5),
            "limited": LIMITED,
            "mute": replace(LOST, streamed=90.0, is_reopening=True),
        }
        self.assertEqual(set(table), set(RECONNECT_REASONS))
        for reason, disconnect in table.items():
            self.assertEqual(disconnect.reconnect_reason, reason)

    def test_delay_after_own_close_is_zero(self) -> None:
        """Alpaca has not failed. The ceiling for later failures stays where it was."""
        backoff = new_backoff(1.0)
        delays = [
            backoff.delay_after(disconnect)
            for disconnect in (LOST, replace(LOST, is_reopening=True), LOST)
        ]
        self.assertEqual(delays, [1.0, 0.0, 2.0])


class ParseRetryAfterTests(SynchronousTestCase):
    """The Retry-After header: seconds or a date."""

    def test_parse_seconds_returns_at_most_900(self) -> None:
        """A number is in seconds; more than 15 minutes are cut to 15 minutes."""
        table = {
            "0": 0.0,
            "7": 7.0,
            " 30 ": 30.0,
            "900": 900.0,
            "901": 900.0,
            "31536000": 900.0,
            "9" * 400: 900.0,  # more than a float can hold
            "9" * 5000: 900.0,  # more digits than int() takes
        }
        for value, seconds in table.items():
            self.assertEqual(parse_retry_after(value, now=0.0), seconds, value[:20])

    def test_parse_date_returns_seconds_until_it(self) -> None:
        """A date counts as the seconds until it; a date in the past as 0."""
        moment = 1445412480.0  # 2015-10-21T07:28:00Z
        table = {
            ("Wed, 21 Oct 2015 07:28:00 GMT", moment - 45.5): 45.5,
            ("Wed, 21 Oct 2015 07:28:00 GMT", moment): 0.0,
            ("Wed, 21 Oct 2015 07:28:00 GMT", moment + 3600): 0.0,
            ("Wed, 21 Oct 2015 09:28:00 +0200", moment - 45): 45.0,
            ("Wed, 21 Oct 2015 07:28:00 -0000", moment - 45): 45.0,  # RFC 5322: UTC, zone unknown
            ("Wednesday, 21-Oct-15 07:28:00 GMT", moment - 45): 45.0,
            ("Wed Oct 21 07:28:00 2015", moment - 45): 45.0,
            ("Fri, 31 Dec 9999 23:59:59 GMT", moment): 900.0,
        }
        for (value, now), seconds in table.items():
            self.assertEqual(parse_retry_after(value, now), seconds, value)

    def test_parse_invalid_value_returns_none(self) -> None:
        """Any other value is ignored."""
        for value in (
            "",
            " ",
            "soon",
            "-5",
            "1.5",
            "1e3",
            "nan",
            "inf",
            "²",
            "60, 60",
            "Tue, 31 Feb 2026 00:00:00 GMT",
            "Wed, 21 Oct 2015 25:00:00 GMT",
            "Wed, 21 Oct 99999 07:28:00 GMT",
            "Wed, 21 Oct 2015 07:28:00 +9999",
            "[" * 1000,
        ):
            self.assertIsNone(parse_retry_after(value, now=0.0), value[:40])

    @examples()
    @given(
        st.text()
        | st.from_regex(
            r"\A(Mon, )?[0-9]{0,3} (Jan|Nov) [0-9]{0,7} [0-9:.]{0,9} ([+-][0-9]{0,6}|GMT)?"
        )
    )
    def test_parse_any_text_returns_bounded_value(self, value: str) -> None:
        """No header value raises or gives a delay above the limit."""
        seconds = parse_retry_after(value, now=1e9)
        if seconds is not None:
            self.assertTrue(0.0 <= seconds <= 900.0, value)
