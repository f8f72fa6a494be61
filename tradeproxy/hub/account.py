"""One account: the only way in for its events, its broadcaster as the way out, and how its upstream is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twisted.logger import Logger

from tradeproxy.hub.broadcaster import Broadcaster
from tradeproxy.hub.gaps import Gaps
from tradeproxy.hub.replication import StreamState
from tradeproxy.journal.base import UnreadableError
from tradeproxy.runtime.stats import BATCH_SIZE_BOUNDS, LATENCY_BOUNDS, Histogram, SlowestSeries
from tradeproxy.wire.position import Cursor, compute_check
from tradeproxy.wire.proxy_status import (
    GapOutcome,
    UpstreamStatus,
    encode_hello,
    encode_journal,
    encode_upstream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.hub.replication import NodeRole
    from tradeproxy.journal.base import Batch, Journal, Row
    from tradeproxy.wire.event import Event
    from tradeproxy.wire.proxy_status import JournalStatus


INTERNAL_ERROR = "an error of the proxy's own: see its log"
"""The reason that is told where a bug has ended something."""

RECONNECT_REASONS = ("lost", "unreachable", "refused", "limited")
"""Why the upstream had to try again: a stream ended; none was reached; the login was refused; another
connection holds the account's only place."""

ANOTHER_ACCOUNT = "Alpaca answers with another account than before"


class Account:
    """The events of one Alpaca account, from one upstream over the journal to any number of subscribers.

    Events that are published in one turn of the reactor make one burst. It is committed and handed on at the
    end of that turn (callLater(0) runs once the turn's reads are done), so that a lone event waits for
    nothing, and a hundred at once cost one commit, and each subscriber one delivery.
    """

    _log = Logger()

    def __init__(self, name: str, journal: Journal, clock: IReactorTime) -> None:
        self.name = name
        self.journal = journal
        self.broadcaster = Broadcaster(clock)
        self.gaps = Gaps(journal, self._announce)
        self.role: NodeRole | None = None
        """This node's part, where several share the account."""
        self.on_stream_state: Callable[[StreamState], None] = lambda _: None
        """Called when the upstream's status or a gap has changed."""
        self.dropped_frames: Counter[str] = Counter()
        self.reconnects = 0
        self.reconnect_reasons = Counter(dict.fromkeys(RECONNECT_REASONS, 0))
        self.has_failed = False
        """Whether nobody tries to reach Alpaca any more, for an error of our own."""
        self.batch_sizes = Histogram(BATCH_SIZE_BOUNDS)
        self.latency = Histogram(LATENCY_BOUNDS)
        self.slowest = SlowestSeries()
        self._clock = clock
        self._pending: list[Event] = []
        self._read_at = 0.0  # when the first of those came
        self._received_at: float | None = None
        self._buffered_since: float | None = None
        self._delivering_since: float | None = None
        self._buffer: list[Event] | None = None
        self._has_streamed = False
        self.upstream = UpstreamStatus(
            streaming=False, reason="not connected yet", since=clock.seconds()
        )
        journal.on_committed = self._deliver
        self.broadcaster.on_idle = self._record_latency
        journal.on_status = self._journal_changed
        journal.on_new_epoch = self._announce_hello
        journal.on_replaced = self.broadcaster.drop_all

    def open(self) -> None:
        """Open the journal; raises JournalError with a line for the user where that cannot be."""
        self.journal.open()

    def close(self) -> None:
        """Commit what has come, whether it was to be handed on or held, and close the journal."""
        try:
            self.stop_buffering()
            self.flush()
        finally:
            self.journal.close()

    # The way in.

    def mark_received(self) -> None:
        """Note that something has come from Alpaca: what is published until the next call came now."""
        self._received_at = self._clock.seconds()

    def publish(self, event: Event) -> None:
        """Take in one event from the stream."""
        if self._buffer is None:
            self._enqueue(event, self._received_at)
            return
        if not self._buffer:
            self._buffered_since = self._received_at
        self._buffer.append(event)

    def publish_recovered(self, event: Event) -> None:
        """Take in one event that the stream did not bring: it goes before those that are held."""
        self._enqueue(event, None)

    def start_buffering(self) -> None:
        """Keep what the stream brings from now on, until what came before it is found."""
        if self._buffer is None:
            self._buffer = []

    def stop_buffering(self) -> None:
        """Hand on what was held, and then whatever comes at once."""
        held, self._buffer = self._buffer or (), None
        for event in held:
            self._enqueue(event, self._buffered_since)
        if (
            held and self._buffered_since is not None
        ):  # something that was found may wait for this turn's end too
            self._read_at = min(self._read_at, self._buffered_since)

    @property
    def buffered(self) -> tuple[Event, ...]:
        """What is held at the moment."""
        return tuple(self._buffer or ())

    @property
    def is_settled(self) -> bool:
        """Whether nothing is held, or waits for this turn's end, and all that is in the log is handed on."""
        return self._buffer is None and not self._pending and self.journal.is_current

    @property
    def is_buffering(self) -> bool:
        """Whether events of the stream wait for older ones."""
        return self._buffer is not None

    def drop_frame(self, problem: str) -> None:
        """Count a frame that is not handed on; the first of each kind is logged.

        `problem` is one of a few fixed phrases.
        """
        self.dropped_frames[problem] += 1
        if self.dropped_frames[problem] == 1:
            self._log.warn(
                "{account}: dropped a frame from Alpaca: {problem}; from now on these are only counted",
                account=self.name,
                problem=problem,
            )

    def _enqueue(self, event: Event, came: float | None) -> None:
        """Let it be committed at the end of this turn; it came at that time, or now."""
        if not self._pending:
            self._clock.callLater(0, self.flush)
            self._read_at = self._clock.seconds() if came is None else came
        self._pending.append(event)

    def flush(self) -> None:
        """Commit and hand on what has come in this turn, without waiting for its end."""
        burst, self._pending = self._pending, []
        if burst:  # or somebody did not wait
            self.journal.append(burst)

    def _deliver(self, burst: Batch) -> None:
        if self._delivering_since is None:
            self._delivering_since = (
                self._read_at if burst.received_at is None else burst.received_at
            )
        self.batch_sizes.observe(len(burst.rows))
        self.broadcaster.publish(burst)

    def _record_latency(self) -> None:
        since, self._delivering_since = self._delivering_since, None
        if since is not None:
            now = self._clock.seconds()
            self.slowest.record(since, now)
            self.latency.observe(now - since)

    # How it is.

    def identify(self, account_id: str) -> None:
        """Note which account Alpaca says this is. If it is another one, the log begins anew.

        What was missed of the other one is lost, and so is every cursor: those who ask are told.
        """
        if self.journal.identify(account_id):
            self.gaps.settle(GapOutcome.LOST, ANOTHER_ACCOUNT)

    def _announce_hello(self) -> None:
        self.broadcaster.announce(self.hello(self.journal.last))

    def mark_upstream_up(self) -> None:
        """Note that Alpaca streams this account's events from now on; the gap before it has its end."""
        now = self._clock.seconds()
        self._set_upstream(UpstreamStatus(streaming=True, reason="streaming", since=now))
        if not self._has_streamed:  # in this process: the log may go back to another one
            self._has_streamed = True
            self.gaps.begin_gap()
        else:
            self.reconnects += 1
        self.gaps.end_gap(round(now * 1_000_000))

    def mark_upstream_down(self, reason: str) -> None:
        """Note that Alpaca's stream is down; `since` stays where the outage began."""
        was = self.upstream
        since = self._clock.seconds() if was.streaming else was.since
        self._set_upstream(UpstreamStatus(streaming=False, reason=reason, since=since))
        if was.streaming:
            self.gaps.begin_gap()

    def _set_upstream(self, status: UpstreamStatus) -> None:
        if status == self.upstream:
            return  # a further attempt has failed as the one before
        self.upstream = status
        self._announce(encode_upstream(status))

    def take_over(self) -> None:
        """Begin to hold the upstream, in the place of another process, which may have missed something."""
        self.mark_upstream_down("connecting")
        self._has_streamed = False

    def apply_stream_state(self, standing: StreamState) -> None:
        """Have the upstream and the gaps of which the process that holds the upstream tells."""
        self.gaps.replicate(standing.gaps)
        self._set_upstream(standing.upstream)

    @property
    def stream_state(self) -> StreamState:
        """The upstream and the gaps, as whoever shares the account is told."""
        return StreamState(self.upstream, tuple(self.gaps))

    def _announce(self, status: bytes) -> None:
        self.broadcaster.announce(status)
        self.on_stream_state(self.stream_state)

    def _journal_changed(self, status: JournalStatus) -> None:
        self.broadcaster.announce(encode_journal(status))

    # What a client is told.

    def hello(self, seq: int | None) -> bytes:
        """Return the status frame with all there is to know, for a client whose stream stands at `seq`.

        None is for one whose place is not known now, so that it must not take another for it.
        """
        cursor = None if seq is None else self.cursor_at(seq)
        return encode_hello(self.name, cursor, self.upstream, self.journal.status, tuple(self.gaps))

    def cursor_at(self, seq: int) -> str | None:
        """Return the cursor of a client that has had all up to number `seq`; None while it has none."""
        if seq == 0 or seq < self.journal.first:
            return str(Cursor(self.name, self.journal.epoch, seq, 0))
        try:
            row = self.journal.row(seq)
        except UnreadableError:
            return None
        return None if row is None else self.cursor_after(row)

    def cursor_after(self, row: Row) -> str | None:
        """Return the cursor just behind a row; None if the row may not outlive this process."""
        if not row.durable:
            return None
        return str(Cursor(self.name, self.journal.epoch, row.seq, compute_check(row.payload)))
