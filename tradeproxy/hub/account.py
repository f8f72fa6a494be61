"""One account: it batches events into the journal, broadcasts them, and tracks its upstream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from tradeproxy.hub.book_status import BookStatus
from tradeproxy.hub.broadcaster import Broadcaster
from tradeproxy.hub.buffer import BufferedEvent, EventBuffer
from tradeproxy.hub.completeness import Completeness
from tradeproxy.hub.gaps import Gaps
from tradeproxy.hub.replication import NodeRole, StreamState
from tradeproxy.hub.trade_log_state import TradeLogState
from tradeproxy.journal.base import Batch, ImportLog, Journal, Log, Row, UnreadableError
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.stats import BATCH_SIZE_BOUNDS, LATENCY_BOUNDS, Histogram, SlowestSeries
from tradeproxy.wire.event import Event
from tradeproxy.wire.position import Cursor, compute_check
from tradeproxy.wire.proxy_status import (
    Gap,
    GapOutcome,
    JournalStatus,
    UpstreamStatus,
    encode_hello,
    encode_journal,
    encode_upstream,
)

INTERNAL_ERROR = "an error of the proxy's own: see its log"
"""The reason in status frames and in /readyz after a bug has stopped something."""

RECONNECT_REASONS = ("lost", "unreachable", "refused", "limited", "mute")
"""Label values of tradeproxy_upstream_reconnects_total.

`lost`: a stream ended. `unreachable`: no connection was possible. `refused`: Alpaca rejected the
login. `limited`: another connection uses the only one that Alpaca allows per account, or a login
was refused with an unknown message. `mute`: the proxy closed a stream that brought no events, or
that belongs to another account than the keys that replaced its own.
"""

ANOTHER_ACCOUNT = "Alpaca answers with another account than before"


class Account:
    """The events of one Alpaca account: one upstream, one journal, any number of subscribers.

    The events of one read of Alpaca's socket form one batch. It is committed and delivered at the
    end of the read. So a single event is not delayed, and a hundred at once cost one commit, and
    one delivery per subscriber. Events that are published elsewhere, such as those of a backfill,
    form the batch of one turn of the reactor.

    During a backfill, events of the stream are buffered, because missed events are older:

        state        event                    effect                           next state
        -----------  -----------------------  -------------------------------  -----------
        passing on   publish                  joins the batch of this read     passing on
        passing on   start_buffering                                           buffering
        buffering    publish                  joins the buffer                 buffering
        buffering    publish_recovered        joins the batch of this turn     buffering
        buffering    release_buffered_before  those before it join that batch  buffering
        buffering    stop_buffering           the buffer joins the next batch  passing on
    """

    def __init__(self, name: str, journal: Journal, clock: IReactorTime) -> None:
        self.name = name
        self._log = AccountLogger(self, name)
        self.journal = journal
        self.log: Log = journal
        """The log, for all that only read it. What else is written goes through this object."""
        self.broadcaster = Broadcaster(clock)
        self.completeness = Completeness(journal, self.flush)
        """Up to which time the log is complete; a recovery records here what it has compared."""
        self.gaps = Gaps(journal, self.completeness, self._announce)
        self.gap_outcomes = self.gaps.outcomes
        """How many gaps have reached each outcome. PENDING counts every gap that began."""
        self.found_events = self.gaps.found
        """Missed events that were found, by "gap" or "check"."""
        self.dates = journal.dates
        """The account's dates: by this machine's clock, and by Alpaca's."""
        self.role: NodeRole | None = None
        """The role of this node; None unless several nodes share the account."""
        self.book: BookStatus | None = None
        """The account's book; None with PROXY_BOOK=0."""
        self.on_stream_state: Callable[[StreamState], None] = lambda _: None
        """Called when the status of the upstream or a gap has changed."""
        self.on_another_account: Callable[[], None] = lambda: None
        """Called when Alpaca has reported another account than before."""
        self.dropped_frames: Counter[str] = Counter()
        self.reconnects = 0
        self.reconnect_reasons = Counter(dict.fromkeys(RECONNECT_REASONS, 0))
        self.has_failed = False
        """Whether a bug has ended the attempts to reach Alpaca. Only a restart helps."""
        self.batch_sizes = Histogram(BATCH_SIZE_BOUNDS)
        self.latency = Histogram(LATENCY_BOUNDS)
        self.slowest = SlowestSeries()
        self.notices: dict[str, str] = {}
        """What is wrong with work that clients do not wait for, by its name, such as "trade log".

        It is shown as a reason in /readyz, whose status does not change.
        """
        self.trade_log: TradeLogState | None = None
        """The state of the trade log; None unless it is written."""
        self.on_delivered: dict[object, Callable[[], None]] = {}
        """Called, in turn, once every client that keeps up has been sent all that was committed."""
        self.on_state: dict[object, Callable[[], None]] = {}
        """Called, in turn, when the status of the upstream, a gap or the journal has changed."""
        self._clock = clock
        # Events that are not committed yet, and when the first one was received.
        self._pending: list[Event] = []
        self._pending_since = 0.0
        self._received_at: float | None = None
        self._is_reading = False
        # When the first event of the running fan-out was received; None while it is idle.
        self._delivering_since: float | None = None
        self._buffer: EventBuffer | None = None
        self.on_buffer_full: Callable[[], None] = self.stop_buffering
        """Called when the buffer is full. It must release it."""
        self._has_streamed = False
        self.newest_streamed = 0
        """The highest time of the events that the stream brought (microseconds since 1970)."""
        self._first_streamed: int | None = None
        self.is_mute = False
        """Whether a check has found that the stream brings no events."""
        self.upstream = UpstreamStatus(
            streaming=False, reason="not connected yet", since=self.dates.own()
        )
        self.next_attempt: float | None = None
        """When the next attempt to reach Alpaca begins (Unix time); None unless one is planned."""
        journal.on_committed = self._deliver
        self.broadcaster.on_idle = self._finish_delivery
        journal.on_status = self._journal_changed
        journal.on_new_epoch = self._announce_hello
        journal.on_replaced = self.broadcaster.drop_all

    def open(self) -> None:
        """Open the journal. Raises JournalError, whose text is a line for the user."""
        self.journal.open()

    def close(self) -> None:
        """Commit and deliver all pending and buffered events, and close the journal."""
        try:
            self.stop_buffering()
            self.flush()
        finally:
            self.journal.close()

    # Receiving events.

    def begin_read(self) -> None:
        """Record that data from Alpaca has been read now. `end_read` delivers its events.

        They count as received now: see `latency`. Several calls may precede one `end_read`.
        """
        self._received_at = self._clock.seconds()
        self._is_reading = True

    def end_read(self) -> None:
        """Commit and deliver the pending events."""
        # First: events that are published during the delivery get a turn of their own.
        self._is_reading = False
        if self._pending:  # `flush` without the call, for every event
            pending, self._pending = self._pending, []
            self.journal.append(pending)

    def publish(self, event: Event) -> None:
        """Take one event of the stream."""
        if self._buffer is None:
            self._enqueue(event, self._received_at, is_streamed=True)
            return
        self._buffer.append(event, self._received_at)
        if self._buffer.is_full:
            self.on_buffer_full()

    def publish_recovered(self, event: Event) -> None:
        """Take one event that the stream omitted. It precedes all buffered events."""
        self._enqueue(event, None)

    def start_buffering(self) -> None:
        """Buffer the events of the stream until `stop_buffering`. A second call has no effect."""
        if self._buffer is None:
            self._buffer = EventBuffer()

    def release_buffered_before(self, event: Event) -> tuple[Event, ...]:
        """Publish the buffered events that the stream brought before this one; return them.

        Call it when the backfill has reached a buffered event. An event of a future time is in no
        history, and would follow that one otherwise. Without such an event, or if `event` is only
        the repeat of an older one, none is released.
        """
        if self._buffer is None:
            return ()
        return self._release(self._buffer.take_before(event, self.dates.now_microseconds()))

    def stop_buffering(self) -> None:
        """Release the buffered events, and pass on later ones at once."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._release(buffer.take_all())

    def _release(self, released: Sequence[BufferedEvent]) -> tuple[Event, ...]:
        for event, received_at in released:
            self._enqueue(event, received_at, is_streamed=True)
        if released and (since := released[0].received_at) is not None:
            # A recovered event may be pending already. The buffered events came before it.
            self._pending_since = min(self._pending_since, since)
        return tuple(event for event, _ in released)

    def has_buffered(self, event: Event) -> bool:
        """Whether the stream brought this event, and it is buffered."""
        return self._buffer is not None and event in self._buffer

    @property
    def buffered(self) -> tuple[Event, ...]:
        """The buffered events, oldest first."""
        return () if self._buffer is None else self._buffer.events

    @property
    def is_settled(self) -> bool:
        """Whether no event is buffered or pending, and the whole log has been broadcast."""
        return self._buffer is None and not self._pending and self.journal.is_current

    @property
    def is_buffering(self) -> bool:
        """Whether events of the stream wait for missed ones."""
        return self._buffer is not None

    def lag(self, position: int) -> int:
        """Return how many rows of the log follow row `position`."""
        return max(self.journal.last - position, 0)

    def drop_frame(self, problem: str) -> None:
        """Count a frame that is not an event. Only the first frame with each problem is logged.

        `problem` is one of a few fixed phrases.
        """
        self.dropped_frames[problem] += 1
        if self.dropped_frames[problem] == 1:
            self._log.warn(
                "dropped a frame from Alpaca: {problem}; from now on these are only counted",
                problem=problem,
            )

    def _enqueue(
        self, event: Event, received_at: float | None, *, is_streamed: bool = False
    ) -> None:
        """Commit the event at the end of this read or turn. None for `received_at` means now."""
        if not self._pending:
            if not self._is_reading:
                self._clock.callLater(0, self.flush)
            self._pending_since = self._clock.seconds() if received_at is None else received_at
        if (time := event.time) is not None:
            if self.dates.is_future(time):
                # The time is wrong. With it, every later event and order state would be older.
                time = self.dates.now_microseconds()
                event = event.with_time(time)
            if is_streamed and time > self.newest_streamed:
                if self._first_streamed is None:
                    self._first_streamed = time
                self.newest_streamed = time
        self._pending.append(event)

    def flush(self) -> None:
        """Commit and deliver the pending events now."""
        pending, self._pending = self._pending, []
        # Empty if the read has no event, or if an earlier call was faster than the timer.
        if pending:
            self.journal.append(pending)

    def _deliver(self, batch: Batch) -> None:
        if self._delivering_since is None:
            self._delivering_since = (
                self._pending_since if batch.received_at is None else batch.received_at
            )
        self.broadcaster.publish(batch)
        self.batch_sizes.observe(len(batch.rows))

    def _finish_delivery(self) -> None:
        since, self._delivering_since = self._delivering_since, None
        if since is not None:
            seconds = self._clock.seconds() - since
            self.slowest.record(self.dates.own(), seconds)
            self.latency.observe(seconds)
        if self.on_delivered:
            for on_delivered in tuple(self.on_delivered.values()):
                on_delivered()

    # The upstream and its gaps.

    def identify(self, account_id: str) -> None:
        """Record the id that Alpaca reports for this account.

        If it is another account, the journal begins a new epoch. The missed events of the old
        account are lost, and every cursor is invalid. Subscribers get `hello` and the gap.
        """
        if self.journal.identify(account_id):
            self.gaps.settle(GapOutcome.LOST, ANOTHER_ACCOUNT)
            self.on_another_account()

    def correct_times(self) -> None:
        """Correct what a wrong clock or a wrong time has set.

        Call it when `dates` has a new estimate of Alpaca's clock.
        """
        self.journal.correct_times()
        self.gaps.correct_times()

    def _announce_hello(self) -> None:
        self.broadcaster.publish(self.hello(self.journal.last))

    def mark_upstream_up(self) -> None:
        """Record that Alpaca streams this account's events from now on. This ends the gap."""
        self.correct_times()  # the handshake may have had a Date header
        status = UpstreamStatus(streaming=True, reason="streaming", since=self.dates.own())
        self._set_upstream(status)
        if not self._has_streamed:
            # The first stream of this process. The log may be an earlier process's: events
            # between its end and now were missed.
            self._has_streamed = True
            self.gaps.begin_gap()
        else:
            self.reconnects += 1
        self.gaps.end_gap(self.dates.now_microseconds())

    def mark_upstream_down(self, reason: str) -> None:
        """Record that the stream is down. `since` stays at the beginning of the outage."""
        previous = self.upstream
        since = self.dates.own() if previous.streaming else previous.since
        self._set_upstream(UpstreamStatus(streaming=False, reason=reason, since=since))
        if previous.streaming:
            self.gaps.begin_gap()

    def _set_upstream(self, status: UpstreamStatus) -> None:
        # Failed attempts with the same reason are not announced again.
        if status == self.upstream:
            return
        self.upstream = status
        self._announce(encode_upstream(status))

    def take_over(self) -> None:
        """Prepare to connect to Alpaca in place of another node, which may have missed events."""
        self.mark_upstream_down("connecting")
        self._has_streamed = False

    @property
    def import_log(self) -> ImportLog | None:
        """The imports that nodes share; None if no other node shares the log."""
        return self.journal.import_log

    @property
    def open_gap(self) -> Gap | None:
        """The gap whose events may still be found; None if there is none."""
        return self.gaps.current

    def count_found(self, events: int) -> None:
        """Count missed events that were found: in the open gap, or by a check without one."""
        self.gaps.count_found(events)

    def settle_gap(self, outcome: GapOutcome, reason: str = "") -> None:
        """Set the outcome of the open gap. Has no effect if there is none."""
        self.gaps.settle(outcome, reason)

    def declare_lost(self, begin: int | None, end: int, reason: str) -> None:
        """Report a gap that is lost, while there is no other one: see Gaps.declare_lost."""
        self.gaps.declare_lost(begin, end, reason)

    def set_metadata(self, key: str, value: str | None, *, is_urgent: bool = True) -> None:
        """Store a short text with the log: see Journal.set_metadata."""
        self.journal.set_metadata(key, value, is_urgent=is_urgent)

    def when_saved(self) -> Deferred[bool]:
        """Return a Deferred that fires with whether what `set_metadata` stored is durable."""
        return self.journal.when_saved()

    def may_precede_stream(self, time: int) -> bool:
        """Whether an event of this time may be older than this process's first stream.

        The stream did not omit such an event: it could not bring it. Once the stream has brought
        an event, it had begun by the time of that one.
        """
        if self._first_streamed is not None and time >= self._first_streamed:
            return False
        return self.gaps.may_precede_stream(time)

    def apply_stream_state(self, state: StreamState) -> None:
        """Copy the upstream's status and the gaps from the node that leads."""
        self.gaps.replicate(state.gaps)
        self.apply_upstream(state.upstream)

    def apply_upstream(self, status: UpstreamStatus) -> None:
        """Set the upstream's status on a node that does not lead; the gaps stay."""
        if status != self.upstream:
            self._log.info(
                "upstream of the leader is {state}",
                state="streaming" if status.streaming else f"down: {status.reason}",
            )
        self._set_upstream(status)

    @property
    def stream_state(self) -> StreamState:
        """The upstream's status and the gaps, for other nodes."""
        return StreamState(self.upstream, tuple(self.gaps))

    def _announce(self, status: bytes) -> None:
        self.broadcaster.publish(status)
        self.on_stream_state(self.stream_state)
        self._report_state()

    def _report_state(self) -> None:
        for on_state in tuple(self.on_state.values()):
            on_state()

    def _journal_changed(self, status: JournalStatus) -> None:
        self.broadcaster.publish(encode_journal(status))
        if status.durable:
            # The last events had no cursor. A client that resumes before the next event needs it.
            self._announce_hello()
        self._report_state()

    # Status frames and cursors.

    def hello(self, seq: int | None) -> bytes:
        """Return the status frame with the whole state, for a client that has rows up to `seq`.

        None means that the client's position is unknown now. The cursor is then null, so that the
        client keeps the one it has.
        """
        cursor = None if seq is None else self.cursor_at(seq)
        return encode_hello(self.name, cursor, self.upstream, self.journal.status, tuple(self.gaps))

    def cursor_at(self, seq: int) -> str | None:
        """Return the cursor of a client that has every row up to number `seq`.

        Returns None if the row is not durable, cannot be read now, or does not exist.
        """
        if seq < self.journal.first:
            # There is no row to take the checksum of: `locate` does not compare it here.
            return str(Cursor(self.name, self.journal.epoch, seq, 0))
        try:
            row = self.journal.row(seq)
        except UnreadableError:
            return None
        if row is None or (row.payload is None and self.broadcaster.has_overflow):
            return None  # events of this hole are still being delivered
        return self.cursor_after(row)

    def cursor_after(self, row: Row) -> str | None:
        """Return the cursor behind a row; None if the row is not durable.

        A crash would lose such a row and reuse its number.
        """
        if not row.durable:
            return None
        return str(Cursor(self.name, self.journal.epoch, row.seq, compute_check(row.payload)))
