"""Tests of the faults as values."""

from __future__ import annotations

from math import inf, nan

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.faults import LARGEST_OFFSET, Fault, FaultKind, LastingFault, parse_fault


class ParseFaultTests(SynchronousTestCase):
    """Parsing of faults."""

    def test_every_kind_is_parsed(self) -> None:
        """By default a fault has a count of one and no duration."""
        for kind in FaultKind:
            self.assertEqual(parse_fault({"kind": kind.value}), Fault(kind, 1, None, None))

    def test_every_field_is_parsed(self) -> None:
        """All fields are kept."""
        document = {"kind": "throttle", "count": 3, "seconds": 1.5, "retry_after": 0}
        self.assertEqual(parse_fault(document), Fault(FaultKind.THROTTLE, 3, 1.5, 0))
        for fields in (
            {"status": 502},
            {"delay": 0.5},
            {"events": 0, "dropped": 7},
            {"offset": -0.5},
            {"message": "no", "code": 406},
            {"content_type": "application/json", "body": "{}"},
        ):
            expected = Fault(FaultKind.HISTORY_DROP, **fields)
            self.assertEqual(parse_fault({"kind": "history_drop", **fields}), expected)

    def test_offset_is_bounded_in_both_directions(self) -> None:
        """By default it is a year; the error is one line with the bounds."""
        self.assertEqual(parse_fault({"kind": "time_shift"}).offset, 365 * 86_400)
        for offset in (LARGEST_OFFSET, -LARGEST_OFFSET, 0):
            self.assertEqual(parse_fault({"kind": "date_shift", "offset": offset}).offset, offset)
        document = {"kind": "date_shift", "offset": LARGEST_OFFSET + 1}
        self.assertEqual(
            self.assertRaises(ApiError, parse_fault, document).message,
            "offset: Expected `float` <= 1576800000.0",
        )

    def test_invalid_field_is_named(self) -> None:
        """The error is one line and names the field."""
        for document, word in (
            (None, "object"),
            ({}, "kind"),
            ({"kind": "rain"}, "kind"),
            ({"kind": ["drop"]}, "kind"),
            ({"kind": "drop", "when": 1}, "when"),
            *(
                ({"kind": "drop", "count": count}, "count")
                for count in (0, -1, 1.5, True, "1", None, 10**9)
            ),
            *(
                ({"kind": "drop", "seconds": seconds}, "seconds")
                for seconds in (0, -1, True, "1", inf, 10**400)
            ),
            *(({"kind": "drop", "retry_after": after}, "retry_after") for after in (-1, 1.5, True)),
            *(({"kind": "drop", "status": status}, "status") for status in (200, 600, "403", None)),
            *(
                ({"kind": "drop", "delay": delay}, "delay")
                for delay in (0, -1, True, None, 10**400)
            ),
            *(({"kind": "drop", "events": events}, "events") for events in (-1, 1.5, True, None)),
            *(
                ({"kind": "drop", "offset": offset}, "offset")
                for offset in (True, "1", None, nan, inf, LARGEST_OFFSET + 1, -(10**400))
            ),
            *(({"kind": "drop", "dropped": dropped}, "dropped") for dropped in (0, "1", None)),
            *(({"kind": "limit", "message": text}, "message") for text in (1, None, "x" * 10_001)),
            *(({"kind": "limit", "code": code}, "code") for code in (0, 1000, True, "406")),
            *(({"kind": "drop", "body": body}, "body") for body in (1, None, "x" * 10_001)),
            *(
                ({"kind": "drop", "content_type": text}, "content_type")
                for text in (1, None, "text/html\r\nX: y", "é", "x" * 10_001)
            ),
        ):
            refusal = self.assertRaises(ApiError, parse_fault, document)
            self.assertEqual(refusal.status, 400)
            self.assertIn(word, refusal.message)
            self.assertNotIn("\n", refusal.message)


class LastingFaultTests(SynchronousTestCase):
    """Lasting faults."""

    def test_count_limits_requests(self) -> None:
        """A fault with a count of two applies twice."""
        fault = LastingFault(Fault(FaultKind.REFUSE, count=2), now=0)
        self.assertEqual([fault.applies(0) for _ in range(4)], [True, True, False, False])

    def test_seconds_limit_the_duration(self) -> None:
        """A fault of five seconds applies to every request within them."""
        fault = LastingFault(Fault(FaultKind.REFUSE, seconds=5), now=10)
        self.assertEqual(
            [fault.applies(now) for now in (10, 11, 14.9, 15)], [True, True, True, False]
        )
