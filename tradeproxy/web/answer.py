"""A JSON response that is made and sent in steps, as its client reads.

state      event                                       next state
---------  ------------------------------------------  -----------------------------
working    step: the work goes on                      working
working    step: the work ends with a rejection        ended: the error is sent
working    step: the work ends with an answer          hashing
working    step: the work waits                        waiting, without steps
waiting    what the work waits for is over             working
waiting    the place is needed                         ended: the work's own error is sent
hashing    step: bytes are left                        hashing
hashing    step: the client has this answer            ended: 304
hashing    step: no bytes are left                     sending: the head is sent
sending    step: bytes are left                        sending
sending    step: no bytes are left                     ended
sending    the client does not read                    the same, without steps
sending    the client does not read for a minute       ended: the connection is aborted
sending    the client does not read in three minutes   the same
sending    they are needed: see StatePages             the same
working    the place or its bytes are needed           ended: the error is sent
hashing    they are needed                             the same
any        the client disconnects                      ended: the work is dropped
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from sys import getsizeof
from typing import Any, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from tradeproxy.book.old_documents import Hold
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.clients import Clients
from tradeproxy.runtime.peer import get_host_key
from tradeproxy.runtime.socket_limit import unwrap
from tradeproxy.web.responses import render_rejection, send_body
from tradeproxy.web.turns import Turns
from tradeproxy.wire.close_codes import CloseCode

BLOCK_BYTES = 64 * 1024
"""Bytes that one step sends if very many answers are under way, and less than as many again."""

MAX_BLOCK_BYTES = 256 * 1024
"""The same if few are. Each block waits for a turn of the reactor, which others may make long."""

BLOCKS_PER_HASH_STEP = 32
"""Blocks that one step hashes: two milliseconds. A large state would wait for a turn for each."""

STALL_TIMEOUT = 60.0
"""Seconds for which a client may read nothing of its answer."""

READ_TIMEOUT = 180.0
"""Seconds in which a client must read its answer: meanwhile it holds what has changed since."""

FAILED = Rejection(503, "the answer could not be made: see the proxy's log")

TOO_OLD = Rejection(503, "too many old states are in memory", retry_after=1)

_TAG = re.compile(rb'"[^"]*"|\*')


class Waiting(NamedTuple):
    """What the work of an answer waits for."""

    over: Deferred[Any]
    """It fires at some time, and has no error."""
    rejection: Rejection
    """The answer if its place is needed meanwhile."""


class Content:
    """The bytes of an answer, in pieces. Answers may share it: then it is hashed once."""

    def __init__(
        self, pieces: Sequence[bytes], share: Callable[[Answer], Hold] | None = None
    ) -> None:
        """Take the pieces.

        Args:
            pieces: all of them.
            share: returns what holds the documents in the pieces for an answer, if they are of a
                book. Without it the pieces are of this answer alone.
        """
        self.pieces = pieces
        self.share = share
        self.held = getsizeof(pieces) + (sum(map(getsizeof, pieces)) if share is None else 0)
        """Bytes of memory that are freed with it."""
        self.tag = b""
        """For the header ETag, once `hash_some` has returned True."""
        self._unhashed = _blocks(pieces, lambda: BLOCK_BYTES)
        self._digest = blake2b(digest_size=16)

    def hash_some(self) -> bool:
        """Hash the next blocks; return whether none is left."""
        blocks = list(islice(self._unhashed, BLOCKS_PER_HASH_STEP))
        for block in blocks:
            self._digest.update(block)
        self.tag = b'"%b"' % self._digest.hexdigest().encode()
        return len(blocks) < BLOCKS_PER_HASH_STEP


Work: TypeAlias = "Generator[int | None, None, Content | Sequence[bytes] | Rejection]"
"""Makes an answer, and yields after each step of it: the bytes that it holds now, None if these are
as before. The result is the answer's bytes, in pieces."""

WaitingWork: TypeAlias = (
    "Generator[Waiting | int | None, None, Content | Sequence[bytes] | Rejection]"
)
"""The same. It may wait."""


@implementer(IPushProducer)
class Answer:
    """One response. It counts as a short request of a client, not as a client."""

    grant = None  # it ends before a token could be removed
    _log = Logger()

    def __init__(
        self,
        request: Request,
        work: WaitingWork,
        find_block_bytes: Callable[[str], int],
        hold: Callable[[Answer, int], None],
        turns: Turns,
        clients: Clients,
        clock: IReactorTime,
    ) -> None:
        """Create an answer that does nothing yet.

        Args:
            request: an admitted GET or HEAD; or POST, whose answer has no tag.
            work: makes the answer.
            find_block_bytes: returns the bytes of the next block for a client of this address.
            hold: is called with the bytes that the answer holds. It may end any answer.
            turns: shared with other answers.
            clients: the connected clients.
            clock: for the stall timeout.
        """
        channel: Any = request.channel
        self.is_closed: Deferred[None] = Deferred()
        self.host = get_host_key(getattr(request.getClientAddress(), "host", ""))
        """The key of the client's address; empty for a UNIX socket."""
        self._request = request
        self._transport = channel.transport
        known: Sequence[bytes] = request.requestHeaders.getRawHeaders(b"if-none-match", ())
        self._known = _TAG.findall(b",".join(known))
        self._work = work
        self._find_block_bytes = find_block_bytes
        self._hold = hold
        self._steps = self._run()
        self._waiting: Waiting | None = None
        self._turns = turns
        self._clients = clients
        self._clock = clock
        self._paused_at: float | None = None
        self._end_at = clock.seconds() + READ_TIMEOUT
        self._has_ended = False
        self._stall_timer: IDelayedCall | None = None

    def begin(self) -> bool:
        """Begin with the work in a later turn; return False if no place is free for a client."""
        if not self._clients.sockets.log_in(self._transport):
            return False
        self._clients.add(self)
        self._request.notifyFinish().addBoth(self._on_finished)
        self._turns.schedule(self._step, self.host)
        return True

    # For DownstreamService: the interface of a connected client.

    def close(self, code: CloseCode) -> None:
        """Do nothing: the answer may complete. The service aborts the rest at its deadline."""

    def abort(self) -> None:
        """Drop the connection."""
        self._end()
        transport: Any = self._request.transport
        transport.abortConnection()

    def give_way(self, rejection: Rejection) -> None:
        """End with an error, or by dropping the connection if bytes were sent."""
        if self._has_ended:
            return
        if self._request.startedWriting or self._request.producer is not None:
            self.abort()
        else:
            self._send_error(rejection if self._waiting is None else self._waiting.rejection)
            self._finish()

    def give_up(self, seconds: float) -> None:
        """Give way: it keeps too many old documents in memory. See OldDocuments."""
        self.give_way(TOO_OLD)

    def stats(self) -> None:
        """Return None: a request is not a client of a stream."""

    @property
    def stalled(self) -> float:
        """The seconds for which the client has read nothing; 0 while it reads."""
        return 0.0 if self._paused_at is None else self._clock.seconds() - self._paused_at

    # For the client's connection: the interface of a producer.

    def pauseProducing(self) -> None:
        """Take no further step: the client does not read."""
        if self._paused_at is None and not self._has_ended:
            self._paused_at = self._clock.seconds()
            left = max(self._end_at - self._paused_at, 0.0)
            self._stall_timer = self._clock.callLater(min(STALL_TIMEOUT, left), self.abort)

    def resumeProducing(self) -> None:
        """Go on."""
        if self._paused_at is not None and not self._has_ended:
            self._paused_at = None
            self._cancel_stall()
            self._turns.schedule(self._step, self.host)

    def stopProducing(self) -> None:
        """Do nothing: the request's notifyFinish reports the disconnect too."""

    # Steps.

    def _step(self) -> None:
        if self._has_ended or self._paused_at is not None:
            return
        try:
            result = next(self._steps)
        except StopIteration:
            self._finish()
        except Exception:
            self._log.failure("an answer about the state of an account failed")
            if self._request.startedWriting:
                self.abort()
            else:
                self._send_error(FAILED)
                self._finish()
        else:
            if isinstance(result, Waiting):
                self._waiting = result
                result.over.addCallback(self._go_on)
                return
            if result is not None:
                self._hold(self, result)
            if self._paused_at is None and not self._has_ended:
                self._turns.schedule(self._step, self.host)

    def _go_on(self, _: Any) -> None:
        self._waiting = None
        if not self._has_ended:
            self._turns.schedule(self._step, self.host)

    def _run(self) -> Iterator[Waiting | int | None]:
        made = yield from self._work
        if isinstance(made, Rejection):
            self._send_error(made)
            return
        request, content = self._request, made if isinstance(made, Content) else Content(made)
        pieces = content.pieces
        hold = None if content.share is None else content.share(self)
        yield content.held
        if request.method == b"POST":
            request.setHeader(b"cache-control", b"no-store")
        elif (yield from self._is_known(content)):
            return
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"content-length", b"%d" % sum(map(len, pieces)))
        if request.method == b"HEAD":
            return
        request.registerProducer(self, True)
        unwrap(self._transport).SEND_LIMIT = MAX_BLOCK_BYTES  # Twisted's is half as much
        for block in _blocks(pieces, lambda: self._find_block_bytes(self.host)):
            request.write(block)
            yield None
        del hold

    def _is_known(self, content: Content) -> Generator[None, None, bool]:
        """Set the tag of the answer; return whether its client has it, and gets 304 alone."""
        while not content.hash_some():
            yield
        yield
        tag = content.tag
        self._request.setHeader(b"etag", tag)
        self._request.setHeader(b"cache-control", b"private, no-cache")
        is_known = tag in self._known or b"*" in self._known
        if is_known:
            self._request.setResponseCode(304)
        return is_known

    def _send_error(self, rejection: Rejection) -> None:
        send_body(self._request, render_rejection(self._request, rejection))

    # The end.

    def _finish(self) -> None:
        self._end()
        if self._request.producer is not None:
            self._request.unregisterProducer()
        self._request.finish()

    def _on_finished(self, _: Failure | Any) -> None:
        self._end()
        self.is_closed.callback(None)

    def _end(self) -> None:
        """Drop the work. A second call has no effect."""
        if self._has_ended:
            return
        self._has_ended = True
        self._cancel_stall()
        self._turns.cancel(self._step)
        self._steps = iter(())  # what waits in a step refers to this answer
        # Before the end of the response, which starts the next pipelined request.
        self._clients.discard(self)
        self._clients.sockets.log_out(self._transport)

    def _cancel_stall(self) -> None:
        if self._stall_timer is not None and self._stall_timer.active():
            self._stall_timer.cancel()
        self._stall_timer = None


def _blocks(pieces: Sequence[bytes], find_size: Callable[[], int]) -> Iterator[bytes]:
    """Yield the bytes in blocks; one piece may be larger, and is in several of them."""
    block: list[bytes] = []
    size, wanted = 0, find_size()
    for piece in pieces:
        for begin in range(0, len(piece), BLOCK_BYTES):
            part = piece[begin : begin + BLOCK_BYTES]  # the piece itself if it is smaller
            block.append(part)
            size += len(part)
            if size >= wanted:
                yield b"".join(block)
                block, size, wanted = [], 0, find_size()
    if block:
        yield b"".join(block)
