"""Tests for tradeproxy.recovery.sse_parser."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from time import process_time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.recovery.sse_parser import (
    MAX_EVENT_SIZE,
    SseComment,
    SseData,
    SseForeign,
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
    """Return the complete items of a body that arrives in these chunks."""
    parser = SseParser()
    return [item for chunk in chunks for item in parser.feed(chunk)]


class SseParserTests(SynchronousTestCase):
    """Server-sent events in chunks."""

    def test_feed_standard_body_yields_data_and_comments(self) -> None:
        """Both line ends, several data lines, other fields and a byte order mark are read."""
        self.assertEqual(parse(BODY), ITEMS)

    @examples()
    @given(st.lists(st.integers(0, len(BODY)), max_size=20).map(sorted))
    def test_feed_any_chunks_yields_same_items(self, cuts: list[int]) -> None:
        """A chunk may end anywhere, even between CR and LF."""
        bounds = [0, *cuts, len(BODY)]
        self.assertEqual(parse(*(BODY[start:end] for start, end in pairwise(bounds))), ITEMS)

    def test_end_without_blank_line_yields_event(self) -> None:
        """The end of a complete body completes its last event."""
        for rest in (b"data: x", b"data: x\n", b"data: x\r\n"):
            parser = SseParser()
            self.assertEqual(list(parser.feed(rest)), [])
            self.assertEqual(list(parser.end()), [SseData((b"x",))], rest)
        self.assertEqual(list(SseParser().end()), [])

    def test_feed_lines_of_other_formats_yields_foreign(self) -> None:
        """A gateway may answer with its error. It must not count as an empty stream."""
        for line in (b'{"code":500}', b"<html>", b"[]", b'"error"', b"  x: 1", b"502 Bad Gateway"):
            self.assertEqual(parse(line + b"\n"), [SseForeign()], line)
        self.assertEqual(parse(b"unknown\nun-known: 1\n"), [])

    def test_feed_byte_order_mark_in_later_line_yields_foreign(self) -> None:
        """Only the first line of a body may begin with one."""
        self.assertEqual(parse(b":\n\xef\xbb\xbfdata: x\n\n"), [SseComment(b""), SseForeign()])

    def test_feed_limits_event_and_line_to_1_mib(self) -> None:
        """The limit of an event is that of its data; a line that is not complete is limited too.

        The events before and after it make no difference.
        """
        around = b"data: y\n\n"
        other = SseData((b"y",))
        for size, is_read in ((1_048_576, True), (1_048_577, False)):
            data = b"x" * size
            item = SseData((data,)) if is_read else SseOversized()
            self.assertEqual(parse(b"data: %s\n\n" % data), [item], size)
            self.assertEqual(parse(around + b"data:%s\n\n" % data + around), [other, item, other])
            line = b"data:" + data[5:]
            item = SseData((data[5:],)) if is_read else SseOversized()
            self.assertEqual(parse(line, b"\n\n", around), [item, other], size)

    def test_feed_endless_line_keeps_no_more_than_limit(self) -> None:
        """A server that sends no line end must not fill the memory."""
        parser, chunk = SseParser(), b"x" * MAX_EVENT_SIZE
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(8):
            self.assertEqual(list(parser.feed(chunk)), [])
        self.assertLess(tracemalloc.get_traced_memory()[0], 2 * MAX_EVENT_SIZE)

    def test_feed_limits_event_to_1000_lines(self) -> None:
        """Empty lines have no bytes to count: 47 MB of them took 60 MB, and later ones more."""
        after = SseData((b"y",))
        for count, is_read in ((1000, True), (1001, False)):
            item = SseData((b"",) * count) if is_read else SseOversized()
            self.assertEqual(parse(b"data:\n" * count, b"\ndata: y\n\n"), [item, after])

    def test_feed_single_bytes_of_long_line_takes_linear_time(self) -> None:
        """Chunks of one byte after a long line copied the line for each: 17 s without a pause."""
        parser = SseParser()
        list(parser.feed(b"data:" + b"x" * (MAX_EVENT_SIZE // 2)))
        started = process_time()
        for _ in range(100_000):
            list(parser.feed(b"x"))
        self.assertLess(process_time() - started, 3)

    def test_end_in_oversized_line_yields_oversized(self) -> None:
        """The last line of a body may have no end. Such an event was dropped without a trace."""
        parser = SseParser()
        self.assertEqual(list(parser.feed(b"data: " + b"x" * MAX_EVENT_SIZE)), [])
        self.assertEqual(list(parser.end()), [SseOversized()])

    def test_feed_oversized_event_yields_oversized(self) -> None:
        """One long line, or many lines; the next event is read."""
        half = b"data: " + b"x" * (MAX_EVENT_SIZE // 2)
        for chunks in (
            [b"data: ", *[b"{" * 65536] * 17, b"\n", b"\n"],
            [half + b"\n", half + b"\n", b"data: x\n\n"],
            [half + b"\n" + half + b"\ndata: x\n\n"],
        ):
            self.assertEqual(parse(*chunks, b"data: y\n\n"), [SseOversized(), SseData((b"y",))])
