"""Tests for tradeproxy.upstream.backoff."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.upstream.backoff import Backoff, Disconnect, DisconnectCause, parse_retry_after

LOST = Disconnect(DisconnectCause.LOST, "connection lost")
CLEAN = Disconnect(DisconnectCause.LOST, "closed by Alpaca with code 1000")
REFUSED = Disconnect(DisconnectCause.REFUSED, "login refused")
LIMITED = Disconnect(DisconnectCause.LIMITED, "HTTP 429 at the handshake")

CEILINGS = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
"""Seconds that the first, second, … failure in a row may cost at most."""


def backoff(drawn: float) -> Backoff:
    """Return a Backoff for which randomness is always `drawn`."""
    return Backoff(lambda: drawn)


class BackoffTests(SynchronousTestCase):
    """When to try Alpaca again."""

    def test_doubles_to_a_minute_with_full_jitter(self) -> None:
        """The wait is a random part, from none to all, of a ceiling of 1 s that doubles to 60 s."""
        for drawn in (0.0, 0.5, 1.0):
            waits = backoff(drawn)
            delays = [waits.delay_after(LOST) for _ in CEILINGS]
            self.assertEqual(delays, [drawn * ceiling for ceiling in CEILINGS], drawn)

    def test_grows_after_clean_closes_too(self) -> None:
        """A server that closes politely in a loop is not dialled in a loop."""
        waits = backoff(1.0)
        self.assertEqual([waits.delay_after(CLEAN) for _ in CEILINGS], CEILINGS)

    def test_draws_anew_each_time(self) -> None:
        """Two proxies that lost Alpaca together don't come back together."""
        waits = Backoff(iter([0.25, 0.75, 0.5]).__next__)
        self.assertEqual([waits.delay_after(LOST) for _ in range(3)], [0.25, 1.5, 2.0])

    def test_waits_at_least_the_floor_that_the_cause_calls_for(self) -> None:
        """A refused key waits 60 s at least, a taken slot 90 s, with the jitter on top."""
        table = {
            "refused, no jitter": (REFUSED, 0.0, [60.0, 60.0, 60.0]),
            "refused, half": (REFUSED, 0.5, [60.5, 61.0, 62.0]),
            "refused, all": (REFUSED, 1.0, [61.0, 62.0, 64.0]),
            "limited, no jitter": (LIMITED, 0.0, [90.0, 90.0, 90.0]),
            "limited, half": (LIMITED, 0.5, [90.5, 91.0, 92.0]),
            "limited, all": (LIMITED, 1.0, [91.0, 92.0, 94.0]),
        }
        for name, (ending, drawn, delays) in table.items():
            waits = backoff(drawn)
            self.assertEqual([waits.delay_after(ending) for _ in delays], delays, name)

    def test_a_floor_ends_with_its_cause(self) -> None:
        """The failure after a limited one is an ordinary one again, on the same growing ceiling."""
        waits = backoff(1.0)
        delays = [waits.delay_after(ending) for ending in (LOST, LIMITED, LOST, REFUSED, LOST)]
        self.assertEqual(delays, [1.0, 92.0, 4.0, 68.0, 16.0])

    def test_what_alpaca_asks_for_replaces_the_floor(self) -> None:
        """Retry-After is taken at its word, be it shorter or longer than our own floor; jitter stays."""
        for cause in (DisconnectCause.LOST, DisconnectCause.LIMITED):
            for seconds in (0.0, 5.0, 300.0):
                ending = Disconnect(cause, "HTTP 429", retry_after=seconds)
                self.assertEqual(backoff(0.0).delay_after(ending), seconds, cause)
                self.assertEqual(backoff(1.0).delay_after(ending), seconds + 1.0, cause)

    def test_a_refused_key_waits_a_minute_at_least(self) -> None:
        """Alpaca may ask for more, not for less: only people mend keys."""
        for seconds, delay in {1.0: 60.0, 300.0: 300.0}.items():
            ending = Disconnect(DisconnectCause.REFUSED, "HTTP 401", retry_after=seconds)
            self.assertEqual(backoff(0.0).delay_after(ending), delay)

    def test_starts_over_only_after_a_minute_of_streaming(self) -> None:
        """A session that broke off sooner did not work: the next wait goes on growing."""
        table = {0.0: 8.0, 1.0: 8.0, 59.9: 8.0, 60.0: 1.0, 86_400.0: 1.0}
        for streamed, delay in table.items():
            waits = backoff(1.0)
            for _ in range(3):
                waits.delay_after(LOST)
            ending = Disconnect(DisconnectCause.LOST, "connection lost", streamed=streamed)
            self.assertEqual(waits.delay_after(ending), delay, streamed)

    def test_grows_again_after_it_started_over(self) -> None:
        """The failure of a session that worked is the first of a new row."""
        waits = backoff(1.0)
        for _ in CEILINGS:
            waits.delay_after(LOST)
        waits.delay_after(Disconnect(DisconnectCause.LOST, "connection lost", streamed=3600.0))
        self.assertEqual([waits.delay_after(LOST) for _ in range(3)], [2.0, 4.0, 8.0])


class ParseRetryAfterTests(SynchronousTestCase):
    """The Retry-After header: seconds or a date."""

    def test_reads_seconds(self) -> None:
        """Seconds are what they say, but never more than a quarter of an hour."""
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

    def test_reads_a_date(self) -> None:
        """A date is as many seconds as it lies ahead of now; one that has passed is none."""
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

    def test_takes_anything_else_for_no_answer(self) -> None:
        """Then our own floor holds."""
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

    @settings(deadline=None, derandomize=True)
    @given(
        st.text()
        | st.from_regex(
            r"\A(Mon, )?[0-9]{0,3} (Jan|Nov) [0-9]{0,7} [0-9:.]{0,9} ([+-][0-9]{0,6}|GMT)?"
        )
    )
    def test_never_fails(self, value: str) -> None:
        """Whatever the header holds, the wait is bounded."""
        seconds = parse_retry_after(value, now=1e9)
        if seconds is not None:
            self.assertTrue(0.0 <= seconds <= 900.0, value)
