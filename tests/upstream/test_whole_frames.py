"""Tests for tradeproxy.upstream.whole_frames: it reads what Autobahn reads, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.support.properties import examples
from tests.upstream.test_handshake import RawConnectionTestCase
from tradeproxy.upstream import whole_frames
from tradeproxy.upstream.client import PING_INTERVAL

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
SMALL_LIMIT = 200
"""Bytes: a limit of messages for frames that exceed it."""


def encode_frame(
    opcode: int, payload: bytes = b"", *, first: int = 0x80, masked: bool = False, form: int = 0
) -> bytes:
    """Return a frame.

    Args:
        opcode: its opcode.
        payload: its payload.
        first: the bits before the opcode.
        masked: whether it has a mask (of zeros).
        form: the least number of bytes of its length: 0, 2 or 8.
    """
    size, mask = len(payload), 0x80 if masked else 0
    if size < 126 and form == 0:
        length = bytes([mask | size])
    elif size < 65_536 and form < 8:
        length = bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([mask | 127]) + size.to_bytes(8, "big")
    return bytes([first | opcode]) + length + (bytes(4) if masked else b"") + payload


SIZES = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 199, 200, 201, 300])
PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    SIZES.map(lambda size: b"x" * size),
    st.sampled_from(
        [b"close", "ä€😀".encode(), "ä€😀".encode()[:-1], b"\xed\xa0\x80", b"\xc0\x80"]
    ),
)
CONTROLS = st.builds(
    encode_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), first=st.just(0x80)
)
WHOLE = st.builds(encode_frame, st.sampled_from([TEXT, BINARY]), PAYLOADS)
"""The frames that the module reads, except for invalid UTF-8 and too large messages."""


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Return a message in fragments, with control frames between them."""
    parts = draw(st.lists(PAYLOADS, min_size=2, max_size=4))
    frames = [encode_frame(draw(st.sampled_from([TEXT, BINARY])), parts[0], first=0)]
    for part in parts[1:-1]:
        frames += draw(st.lists(CONTROLS, max_size=1))
        frames.append(encode_frame(CONTINUATION, part, first=0))
    frames.append(encode_frame(CONTINUATION, parts[-1]))
    return b"".join(frames)


CLOSES = st.builds(
    lambda code, reason: encode_frame(CLOSE, code + reason),
    st.sampled_from([b"", b"\x03", b"\x03\xe8", b"\x03\xed", b"\x0f\xa0"]),
    st.sampled_from([b"", b"bye", b"\xff"]),
)
ANY_FRAME = st.builds(
    encode_frame,
    st.integers(0, 15),
    PAYLOADS,
    first=st.sampled_from([0x80, 0x80, 0, 0xC0, 0xA0, 0x90, 0x40]),
    masked=st.booleans(),
    form=st.sampled_from([0, 2, 8]),
)
STREAMS = st.lists(
    st.one_of(WHOLE, WHOLE, WHOLE, fragmented(), CONTROLS, CLOSES, ANY_FRAME), max_size=8
)


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """Return the stream in reads that end at these places."""
    at = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[begin:end] for begin, end in pairwise(at)]


class WholeFramesTests(RawConnectionTestCase):
    """Messages, answers and failures are those of Autobahn."""

    def test_installed_autobahn_is_supported(self) -> None:
        """A newer version works, but each event costs more: the module needs an update."""
        self.assertTrue(whole_frames.IS_SUPPORTED)

    def test_whole_frames_are_not_read_by_autobahn(self) -> None:
        """Neither are those before a frame for Autobahn, in any of the sizes."""
        for size in (2, 3, 125, 126, 65_535):
            with self.subTest(size=size):
                for opcode in (TEXT, BINARY):
                    frame = encode_frame(opcode, b"x" * size)
                    self.assertEqual(self.read(frame), b"")
                    self.assertEqual(self.read(frame + frame + b"\x81"), b"\x81")
                    self.assertEqual(self.messages, [(b"x" * size, opcode == BINARY)] * 2)

    def test_connection_that_is_not_open_has_no_message(self) -> None:
        """Its bytes are of the handshake. No call counts for the turn."""
        self.connect()
        frame = encode_frame(TEXT, b"x")
        read = whole_frames.read_whole_frames(self.protocol, frame, most=10)
        self.assertEqual(read, (frame, 0))
        self.lose()

    def test_binary_frame_may_hold_any_bytes(self) -> None:
        """Only a text has to be UTF-8."""
        self.assertEqual(self.read(encode_frame(BINARY, b"\xff\xff")), b"")
        self.assertEqual(self.messages, [(b"\xff\xff", True)])

    def test_message_of_the_limit_is_read(self) -> None:
        """One more byte is a failure, which is Autobahn's."""
        self.connect()
        self.open()
        self.record()
        self.protocol.maxMessagePayloadSize = 3
        frame, large = encode_frame(TEXT, b"xxx"), encode_frame(TEXT, b"xxxx")
        rest, _ = whole_frames.read_whole_frames(self.protocol, frame + large, most=10)
        self.assertEqual(rest, large)
        self.lose()

    def test_other_frames_are_left_to_autobahn(self) -> None:
        """Their bytes are unchanged, and so are all that follow."""
        whole = encode_frame(TEXT, b"x")
        for frame in (
            encode_frame(PING),
            encode_frame(CLOSE),
            encode_frame(TEXT, b"x", first=0),
            encode_frame(CONTINUATION, b"x"),
            encode_frame(TEXT, b"x", first=0xC0),
            encode_frame(TEXT, b"x", masked=True),
            encode_frame(TEXT, b"x", form=2),
            encode_frame(TEXT, b"x", form=8),
            encode_frame(BINARY, b"x" * 65_536),
            encode_frame(TEXT, b"\xff"),
            encode_frame(3, b"x"),
        ):
            with self.subTest(frame=frame[:8]):
                self.assertEqual(self.read(whole + frame + whole), frame + whole)
                self.assertEqual(self.messages, [(b"x", False)])

    def test_partial_frame_is_left_to_autobahn(self) -> None:
        """Wherever the read ends, in the header too."""
        whole = encode_frame(BINARY, b"x" * 126)
        for end in range(1, len(whole)):
            self.assertEqual(self.read(whole + whole[:end]), whole[:end])
            self.assertEqual(len(self.messages), 1)

    def test_close_within_a_message_leaves_the_rest(self) -> None:
        """What follows in the same read is Autobahn's, as on any connection that is closing."""
        frame = encode_frame(TEXT, b"close")
        self.assertEqual(self.read(frame + frame), frame)

    def read(self, data: bytes) -> bytes:
        """Read `data` on a new connection, and return what is left for Autobahn."""
        self.connect()
        self.open()
        self.record()
        rest, count = whole_frames.read_whole_frames(self.protocol, data, most=10)
        self.assertEqual(count, len(self.messages))
        self.lose()
        return rest

    def lose(self) -> None:
        """Lose the connection, unless it is lost."""
        if self.transport.connected:
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def record(self) -> None:
        """Record messages instead of passing them to the session. One of them closes."""
        self.messages: list[tuple[bytes, bool]] = []

        def take(payload: bytes, is_binary: bool) -> None:
            self.messages.append((payload, is_binary))
            if payload == b"close":
                self.protocol.close()

        self.protocol.onMessage = take

    def observe(self, chunks: Sequence[bytes], limit: int, has_ping: bool, ours: bool) -> Any:
        """Return what a new connection does with these reads, with or without the module."""
        with (
            mock.patch.object(whole_frames, "IS_SUPPORTED", ours),
            mock.patch.object(random, "getrandbits", return_value=0),
            mock.patch("os.urandom", return_value=bytes(range(16))),
            mock.patch("time.time_ns", return_value=1),
        ):
            self.connect()
            self.open()
            if has_ping:
                self.clock.advance(PING_INTERVAL + 1)
            self.record()
            self.protocol.maxMessagePayloadSize = limit
            states = []
            for chunk in chunks:
                if not self.transport.connected:
                    break
                self.protocol.dataReceived(chunk)
                states.append((self.protocol.state, len(self.messages), self.transport.value()))
            protocol = self.protocol
            seen = (
                protocol.localCloseCode,
                protocol.localCloseReason,
                protocol.remoteCloseCode,
                protocol.remoteCloseReason,
                protocol.failedByMe,
                protocol.wasMaxMessagePayloadSizeExceeded,
                protocol.autoPingTimeoutCall is None,
                protocol.autoPingPending,
                protocol.data,
                self.transport.connected,
            )
            self.lose()
            return self.messages, states, seen, self.disconnect()

    def assert_equal(self, chunks: Sequence[bytes], limit: int, has_ping: bool) -> None:
        ours = self.observe(chunks, limit, has_ping, True)
        self.assertEqual(ours, self.observe(chunks, limit, has_ping, False))

    @examples(60)
    @given(STREAMS, st.lists(st.integers(0, 5000), max_size=4), st.booleans(), st.booleans())
    @example([encode_frame(BINARY, b"x" * size) for size in (65_535, 65_536)], [], False, False)
    def test_any_frames_cut_anywhere_are_read_as_by_autobahn(
        self, stream: list[bytes], places: list[int], is_limited: bool, has_ping: bool
    ) -> None:
        """Messages, answers, close codes and the state after every read are the same."""
        limit = SMALL_LIMIT if is_limited else 16 * 1024 * 1024
        self.assert_equal(cut(b"".join(stream), places), limit, has_ping)

    @examples(40)
    @given(STREAMS)
    @example([encode_frame(TEXT, b"x", first=0), encode_frame(TEXT, b"y")])
    @example([b"\x89\x03", encode_frame(TEXT, b"y")])  # the payload of a ping
    @example([b"\x82\x7e", encode_frame(TEXT, b"y")])  # the length of a message
    def test_frames_in_a_read_each_are_read_as_by_autobahn(self, stream: list[bytes]) -> None:
        """A read that begins with a whole frame may come within a message or a frame."""
        self.assert_equal(stream, SMALL_LIMIT, False)

    @examples(30)
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    def test_any_bytes_are_read_as_by_autobahn(self, chunks: list[bytes]) -> None:
        """Random bytes are protocol errors, or the beginning of frames that never end."""
        self.assert_equal(chunks, SMALL_LIMIT, False)
