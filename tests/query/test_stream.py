"""Tests for tradeproxy.query.stream."""

from __future__ import annotations

from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.query.parsing import parse_or_explain
from tests.support.properties import examples
from tradeproxy.query.stream import (
    HistoryQuery,
    SubscribeOptions,
    UntilId,
    UntilTime,
    parse_history_query,
    parse_subscribe_options,
)
from tradeproxy.wire.position import AfterId, AfterTime, FromTime, LastEvents, Position

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""

MORNING = 1_799_990_000_000_000
"""2027-01-15T05:13:20Z"""

CURSOR = "paper.0123456789abcdef.7.89abcdef"


def parse_history(query: bytes, last_event_id: str | None) -> HistoryQuery | str:
    """Return the query as a value, or the line of its error."""
    return parse_or_explain(parse_history_query, query, last_event_id, NOW)


def _pair(name: str) -> st.SearchStrategy[bytes]:
    return st.text().map(lambda value: urlencode({name: value}, errors="surrogatepass").encode())


class QueryTestCase(SynchronousTestCase):
    """Shared assertions about both kinds of query, without tests."""

    def assert_rejected(self, read: object, rows: dict[bytes, str]) -> None:
        """Assert that each query is rejected with its line."""
        assert callable(read)
        for query, line in rows.items():
            self.assertEqual(read(query), line, query)


class SubscribeOptionsTests(QueryTestCase):
    """The query of a WebSocket's URL."""

    def read(self, query: bytes) -> SubscribeOptions | str:
        return parse_or_explain(parse_subscribe_options, query, NOW)

    def test_options_unknown_parameters_are_ignored(self) -> None:
        """Without a known parameter the options have their defaults."""
        for query in (b"", b"&&", b"token=x", b"x=1&x=2", b"until=x", b"\xff=\xff&=%"):
            self.assertEqual(self.read(query), SubscribeOptions(), query)

    def test_options_work_that_a_stranger_chooses_is_bounded(self) -> None:
        """30 requests once froze every account for 40 s: a time took quadratic time to reject.

        1,400 names took 36 ms a request, since each was compared with the known names.
        """
        time = "since: is not a time with its offset from UTC, such as 2026-01-31T14:30:00Z"
        count = "the query has more than 32 parameters"
        longest = b"since=2027-01-15T05:13:20." + b"0" * 38 + b"+00:00"  # a time of 64 characters
        self.assertEqual(self.read(longest), SubscribeOptions(FromTime(MORNING)))
        others = b"&".join(b"other%d=1" % number for number in range(32))
        self.assertEqual(self.read(others), SubscribeOptions())
        self.assert_rejected(
            self.read,
            {
                b"since=" + b":" * 7900 + b"+" * 7900: time,
                longest.replace(b".", b".0"): time,
                longest + b"0": time,
                others + b"&replay=1": count,
                b"&".join(b"sinc%dx=1" % number for number in range(1400)): count,
            },
        )

    def test_options_misspelling_of_over_32_characters_is_ignored(self) -> None:
        """Comparing a name with the known ones takes quadratic time."""
        name = "client_order_id_prefix" + 10 * "x"
        nearest = "there is no such parameter; the nearest is client_order_id_prefix"
        self.assert_rejected(self.read, {f"{name}=1".encode(): f"{name}: {nearest}"})
        for long_name in (f"{name}x", "client_order_id_prefi" * 700):
            self.assertEqual(self.read(f"{long_name}=1".encode()), SubscribeOptions())

    def test_options_near_misspelling_is_rejected(self) -> None:
        """If it were ignored, the client would miss the events it asked for."""
        for name, nearest in (
            ("Since_id", "since_id"),
            ("sinceid", "since_id"),
            ("Replay", "replay"),
        ):
            rejection = self.read(f"{name}=1".encode())
            line = f"{name}: there is no such parameter; the nearest is {nearest}"
            self.assertEqual(rejection, line)

    def test_options_each_form_of_position_is_parsed(self) -> None:
        """A position is an id or cursor, a time, or a number of events."""
        rows: dict[bytes, Position] = {
            b"since_id=01JZX5": AfterId("01JZX5"),
            b"since_id=" + CURSOR.encode(): AfterId(CURSOR),
            b"since_id=%30%31": AfterId("01"),
            b"since_id=" + b"x" * 128: AfterId("x" * 128),
            b"replay=0": LastEvents(0),
            b"replay=1000000": LastEvents(1_000_000),
            b"other=1&replay=007": LastEvents(7),
        }
        for query, position in rows.items():
            self.assertEqual(self.read(query), SubscribeOptions(position), query)

    def test_options_time_with_any_offset_is_parsed(self) -> None:
        """An unescaped "+" arrives as a blank, and is accepted."""
        for text in (
            b"2027-01-15T05:13:20Z",
            b"2027-01-15T05:13:20%2B00:00",
            b"2027-01-15T05:13:20+00:00",
            b"2027-01-15T07:13:20+02:00",
            b"2027-01-15T07:13:20%2002:00",
            b"2027-01-15+07:13:20+0200",
            b"2027-01-15T00:13:20-05:00",
        ):
            self.assertEqual(self.read(b"since=" + text), SubscribeOptions(FromTime(MORNING)), text)

    def test_options_time_after_the_latest_is_rejected(self) -> None:
        """It is a mistake, such as a wrong offset."""
        self.assertEqual(
            self.read(b"since=2027-01-15T08:00:00Z"),
            SubscribeOptions(FromTime(round(NOW * 1_000_000))),
        )
        self.assert_rejected(
            self.read, {b"since=2027-01-15T08:00:01Z": "since: lies in the future"}
        )

    def test_options_time_below_a_microsecond_is_after_that_time(self) -> None:
        """Alpaca's Go SDK resumes one nanosecond after the time of its last event."""
        for text, position in (
            (b"2027-01-15T07:00:00.123456001Z", AfterTime(1_799_996_400_123_456)),
            (b"2027-01-15T07:00:00.1234560009Z", AfterTime(1_799_996_400_123_456)),
            (b"2027-01-15T07:00:00.123456000Z", FromTime(1_799_996_400_123_456)),
        ):
            self.assertEqual(self.read(b"since=" + text), SubscribeOptions(position), text)

    def test_options_client_name_is_parsed_or_rejected(self) -> None:
        """It is shown in terminals, logs and on a page, so control characters are refused."""
        longest = b"client_name=" + b"%C3%A9" * 64
        self.assertEqual(self.read(longest), SubscribeOptions(client_name="é" * 64))
        self.assertEqual(
            parse_history(b"replay=1&client_name=a+b", None),
            HistoryQuery(LastEvents(1), client_name="a b"),
        )
        text = "client_name: is not printable text in UTF-8 without blanks at its ends"
        broken = (b"a%0Ab", b"%1B[31m", b"a%E2%80%AEb", b"%FF", b"+a", b"a+", b"%20")
        rows = {b"client_name=" + name: text for name in broken}
        rows[b"client_name="] = "client_name: is empty"
        rows[longest + b"x"] = "client_name: is longer than 64 characters"
        rows[b"clientname=x"] = "clientname: there is no such parameter; the nearest is client_name"
        self.assert_rejected(self.read, rows)
        self.assert_rejected(lambda query: parse_history(query, None), rows)

    def test_options_snapshot_is_parsed_or_rejected(self) -> None:
        """On both kinds of streams. It cannot come behind an end."""
        self.assertEqual(self.read(b"snapshot=1"), SubscribeOptions(snapshot=True))
        self.assertEqual(
            parse_history(b"snapshot=1&replay=2", None),
            HistoryQuery(LastEvents(2), snapshot=True),
        )
        rows = {
            b"snapshot=2": "snapshot: is neither 1 nor 0",
            b"snapshots=1": "snapshots: there is no such parameter; the nearest is snapshot",
        }
        self.assert_rejected(self.read, rows)
        rows[b"snapshot=1&since_id=a&until_id=b"] = (
            "until_id: cannot be given together with snapshot"
        )
        self.assert_rejected(lambda query: parse_history(query, None), rows)

    def test_options_dashboard_is_parsed(self) -> None:
        """It is 1 or 0; anything else is an error."""
        self.assertEqual(self.read(b"dashboard=1"), SubscribeOptions(is_dashboard=True))
        self.assertEqual(self.read(b"dashboard=0"), SubscribeOptions())
        self.assert_rejected(self.read, {b"dashboard=yes": "dashboard: is neither 1 nor 0"})

    def test_options_proxy_status_is_parsed(self) -> None:
        """It is 1 or 0, with or without a position."""
        self.assertEqual(self.read(b"proxy_status=1"), SubscribeOptions(status=True))
        self.assertEqual(self.read(b"proxy_status=0"), SubscribeOptions())
        self.assertEqual(
            self.read(b"replay=5&proxy_status=1"), SubscribeOptions(LastEvents(5), status=True)
        )

    def test_options_invalid_parameter_is_rejected_with_its_name(self) -> None:
        """One line names the parameter and its valid values."""
        no_time = "since: is not a time with its offset from UTC, such as 2026-01-31T14:30:00Z"
        no_number = "replay: is not a number from 0 to 1000000"
        self.assert_rejected(
            self.read,
            {
                b"since_id=": "since_id: is empty",
                b"since_id": "since_id: is empty",
                b"since_id=1&since_id=1": "since_id: is given twice",
                b"since_id="
                + b"x" * 129: "since_id: is longer than any event_id or cursor (128 characters)",
                b"since_id=1&since=2027-01-15T08:00:00Z": (
                    "since: cannot be given together with since_id"
                ),
                b"replay=1&since_id=1": "replay: cannot be given together with since_id",
                b"replay=1&since=2027-01-15T08:00:00Z": (
                    "replay: cannot be given together with since"
                ),
                b"since=": "since: is empty",
                b"since=yesterday": no_time,
                b"since=1799990000": no_time,
                b"since=2027-01-15": no_time,
                b"since=2027-01-15T05:13:20": no_time,
                b"since=2027-01-15+05:13": no_time,
                b"since=2027-01-15T07:13:20+02": no_time,
                b"since=2027-13-15T05:13:20Z": no_time,
                b"since=%ff": no_time,
                b"replay=": "replay: is empty",
                b"replay=-1": no_number,
                b"replay=1000001": no_number,
                b"replay=99999999999999999999": no_number,
                b"replay=1.5": no_number,
                b"replay=%D9%A1": no_number,
                b"replay=all": no_number,
                b"proxy_status=yes": "proxy_status: is neither 1 nor 0",
                b"proxy_status=": "proxy_status: is empty",
                b"proxy_status=1&proxy_status=1": "proxy_status: is given twice",
            },
        )

    @examples()
    @given(
        st.binary()
        | st.sampled_from(["since", "since_id", "replay", "proxy_status"]).flatmap(_pair)
    )
    def test_options_any_query_is_parsed_or_rejected(self, query: bytes) -> None:
        """No query raises an error."""
        self.assertIsInstance(self.read(query), (SubscribeOptions, str))


class HistoryQueryTests(QueryTestCase):
    """The query of server-sent events, and the Last-Event-ID header."""

    def read(self, query: bytes) -> HistoryQuery | str:
        return parse_history(query, None)

    def test_history_without_position_is_live_only(self) -> None:
        """This is what Alpaca does. Status frames do not exist in this kind of stream."""
        for query in (b"", b"proxy_status=1", b"x=1"):
            self.assertEqual(self.read(query), HistoryQuery(), query)

    def test_history_valid_ranges_are_parsed(self) -> None:
        """A range has two times, two ids, or only a beginning."""
        rows = {
            b"since=2027-01-15T05:13:20Z": HistoryQuery(FromTime(MORNING)),
            b"since=2027-01-15T05:13:20Z&until=2027-01-15T05:13:20Z": HistoryQuery(
                FromTime(MORNING), until=UntilTime(MORNING)
            ),
            b"since_id=1": HistoryQuery(AfterId("1")),
            b"since_id=1&until_id=2": HistoryQuery(AfterId("1"), until=UntilId("2")),
            b"replay=3": HistoryQuery(LastEvents(3)),
            # A shell leaves the end of the line behind what it read from a file.
            b"since_id=1+%0A&until_id=2%0D%0A": HistoryQuery(AfterId("1"), until=UntilId("2")),
        }
        for query, expected in rows.items():
            self.assertEqual(self.read(query), expected, query)

    def test_history_until_in_the_future_is_accepted(self) -> None:
        """Live events up to then are wanted too."""
        history = self.read(b"since=2027-01-15T05:13:20Z&until=2027-01-16T05:13:20Z")
        self.assertEqual(
            history, HistoryQuery(FromTime(MORNING), until=UntilTime(MORNING + 86_400_000_000))
        )

    def test_history_invalid_parameter_is_rejected_with_its_name(self) -> None:
        """One line names the parameter and its valid values."""
        time = b"2027-01-15T05:13:20Z"
        self.assert_rejected(
            self.read,
            {
                b"until=" + time: "until: needs since",
                b"until_id=1": "until_id: needs since_id",
                b"replay=1&until=" + time: "until: needs since",
                b"since_id=1&until=" + time: "until: goes with since, not with since_id",
                b"until_id=1&since=" + time: "until_id: goes with since_id, not with since",
                b"since=%s&until=" % time: "until: is empty",
                b"since=%s&until=soon" % time: (
                    "until: is not a time with its offset from UTC, such as 2026-01-31T14:30:00Z"
                ),
                b"since_id=1&since=" + time: "since: cannot be given together with since_id",
                b"since_id=%0A": "since_id: is empty",
                b"since_id=1&until_id=2&until_id=2": "until_id: is given twice",
                b"since_id=1&until_id=" + b"x" * 129: (
                    "until_id: is longer than any event_id or cursor (128 characters)"
                ),
                b"since=2027-01-16T05:13:20Z": "since: lies in the future",
            },
        )

    def test_history_last_event_id_takes_precedence(self) -> None:
        """A browser repeats its URL at each attempt. The end in the URL stays valid.

        Replacements of EventSource send the id as a parameter, since they cannot set a header.
        """
        rows = {
            b"": HistoryQuery(AfterId(CURSOR)),
            b"replay=100": HistoryQuery(AfterId(CURSOR)),
            b"since_id=1&until_id=2": HistoryQuery(AfterId(CURSOR), until=UntilId("2")),
            b"since=2027-01-15T05:13:20Z&until=2027-01-15T05:13:20Z": HistoryQuery(
                AfterId(CURSOR), until=UntilTime(MORNING)
            ),
        }
        for query, expected in rows.items():
            self.assertEqual(parse_history(query, CURSOR), expected, query)
            self.assertEqual(self.read(query + b"&lastEventId=" + CURSOR.encode()), expected, query)
        self.assertEqual(parse_history(b"lastEventId=1", CURSOR), rows[b""])
        self.assertEqual(self.read(b"replay=3&lastEventId="), HistoryQuery(LastEvents(3)))
        self.assertEqual(
            parse_history(b"replay=100", ""),
            HistoryQuery(LastEvents(100)),
        )
        too_long = "Last-Event-ID: is longer than any event_id or cursor (128 characters)"
        self.assertEqual(parse_history(b"", "x" * 129), too_long)

    @examples()
    @given(st.binary(), st.none() | st.text())
    def test_history_any_query_is_parsed_or_rejected(
        self, query: bytes, last_event_id: str | None
    ) -> None:
        """No query and no header raises an error."""
        self.assertIsInstance(parse_history(query, last_event_id), (HistoryQuery, str))
