"""Tests for tradeproxy.recovery.sse_parser."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.recovery.sse_parser import (
    MAX_EVENT_SIZE,
    SseComment,
    SseData,
    SseItem,
    SseOversized,
    SseParser,
)

BODY = (
    b"\xef\xbb\xbf: welcome\r\n\r\n"
    b'data: {"a":1}\n\n'
    b"event: trade\nid: 7\nretry: 10\ndata:{\r\ndata: }\r\ndatum: x\r\n\r\n"
    b":heartbeat\n\n\n"
    b": you are reading too slowly, dropped 3 messages\n\n"
    b"data\ndata:  x\n\n"
)
ITEMS: list[SseItem] = [
    SseComment(b"welcome"),
    SseData((b'{"a":1}',)),
    SseData((b"{", b"}")),
    SseComment(b"heartbeat"),
    SseComment(b"you are reading too slowly, dropped 3 messages"),
    SseData((b"", b" x")),
]


def parse(*chunks: bytes) -> list[SseItem]:
    """Return what is in a body that comes in these chunks, as far as it is complete."""
    parser = SseParser()
    return [item for chunk in chunks for item in parser.feed(chunk)]


class EventStreamParserTests(SynchronousTestCase):
    """Server-sent events in pieces."""

    def test_reads_data_and_comments(self) -> None:
        """Both line ends, several lines of data, other fields, a byte order mark: as the standard says."""
        self.assertEqual(parse(BODY), ITEMS)

    @settings(deadline=None, derandomize=True)
    @given(st.lists(st.integers(0, len(BODY)), max_size=20).map(sorted))
    def test_does_not_care_how_the_body_is_cut(self, cuts: list[int]) -> None:
        """A chunk may end anywhere, between CR and LF too."""
        bounds = [0, *cuts, len(BODY)]
        self.assertEqual(parse(*(BODY[start:end] for start, end in pairwise(bounds))), ITEMS)

    def test_an_event_is_complete_at_the_blank_line_or_at_the_end(self) -> None:
        """What was cut off is no event; what merely lacks the blank line is one."""
        for rest in (b"data: x", b"data: x\n", b"data: x\r\n"):
            parser = SseParser()
            self.assertEqual(list(parser.feed(rest)), [])
            self.assertEqual(list(parser.end()), [SseData((b"x",))], rest)
        self.assertEqual(list(SseParser().end()), [])

    def test_what_is_too_large_is_passed_over_and_not_kept(self) -> None:
        """One line, or many; the event behind it is read."""
        half = b"data: " + b"x" * (MAX_EVENT_SIZE // 2)
        for chunks in (
            [b"data: ", *[b"x" * 65536] * 17, b"\n", b"\n"],
            [half + b"\n", half + b"\n", b"data: x\n\n"],
            [half + b"\n" + half + b"\ndata: x\n\n"],
        ):
            self.assertEqual(parse(*chunks, b"data: y\n\n"), [SseOversized(), SseData((b"y",))])
