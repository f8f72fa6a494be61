"""One account: the only way in for its events, its broadcaster as the way out, and how its upstream is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from twisted.logger import Logger

from tradeproxy.hub.broadcaster import Broadcaster
from tradeproxy.hub.gaps import Gaps
from tradeproxy.hub.replication import Standing
from tradeproxy.journal.base import UnreadableError
from tradeproxy.runtime.stats import LATENCIES, SIZES, Histogram, Pace
from tradeproxy.wire.position import Cursor, check_of
from tradeproxy.wire.proxy_status import (
    Outcome,
    UpstreamStatus,
    encode_hello,
    encode_journal,
    encode_upstream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.hub.replication import Role
    from tradeproxy.journal.base import Burst, Journal, Row
    from tradeproxy.wire.event import Event
    from tradeproxy.wire.proxy_status import JournalStatus


OWN_ERROR = "an error of the proxy's own: see its log"
"""The reason that is told where a bug has ended something."""

SETBACKS = ("lost", "unreachable", "refused", "limited")
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
        self.gaps = Gaps(journal, self._tell)
        self.role: Role | None = None
        """This node's part, where several share the account."""
        self.on_standing: Callable[[Standing], None] = lambda _: None
        """Called when the upstream's status or a gap has changed."""
        self.dropped: Counter[str] = Counter()
        self.reconnects = 0
        self.setbacks = Counter(dict.fromkeys(SETBACKS, 0))
        self.has_failed = False
        """Whether nobody tries to reach Alpaca any more, for an error of our own."""
        self.bursts = Histogram(SIZES)
        self.latency = Histogram(LATENCIES)
        self.pace = Pace()
        self._clock = clock
        self._pending: list[Event] = []
        self._read_at = 0.0  # when the first of those came
        self._came: float | None = None
        self._held_since: float | None = None
        self._handing_on_since: float | None = None
        self._held: list[Event] | None = None
        self._has_streamed = False
        self.upstream = UpstreamStatus(streaming=False, reason="not connected yet", since=clock.seconds())
        journal.on_committed = self._hand_on
        self.broadcaster.on_idle = self._handed_on
        journal.on_status = self._journal_changed
        journal.on_begun = self._say_hello
        journal.on_broken = self.broadcaster.end_all

    def open(self) -> None:
        """Open the journal; raises JournalError with a line for the user where that cannot be."""
        self.journal.open()

    def close(self) -> None:
        """Commit what has come, whether it was to be handed on or held, and close the journal."""
        try:
            self.release()
            self.flush()
        finally:
            self.journal.close()

    # The way in.

    def reading(self) -> None:
        """Note that something has come from Alpaca: what is published until the next call came now."""
        self._came = self._clock.seconds()

    def publish(self, event: Event) -> None:
        """Take in one event from the stream."""
        if self._held is None:
            self._append(event, self._came)
            return
        if not self._held:
            self._held_since = self._came
        self._held.append(event)

    def recover(self, event: Event) -> None:
        """Take in one event that the stream did not bring: it goes before those that are held."""
        self._append(event, None)

    def hold(self) -> None:
        """Keep what the stream brings from now on, until what came before it is found."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Hand on what was held, and then whatever comes at once."""
        held, self._held = self._held or (), None
        for event in held:
            self._append(event, self._held_since)
        if held and self._held_since is not None:  # something that was found may wait for this turn's end too
            self._read_at = min(self._read_at, self._held_since)

    @property
    def held(self) -> tuple[Event, ...]:
        """What is held at the moment."""
        return tuple(self._held or ())

    @property
    def is_settled(self) -> bool:
        """Whether nothing is held, or waits for this turn's end, and all that is in the log is handed on."""
        return self._held is None and not self._pending and self.journal.is_current

    @property
    def is_holding(self) -> bool:
        """Whether events of the stream wait for older ones."""
        return self._held is not None

    def drop(self, problem: str) -> None:
        """Count a frame that is not handed on; the first of each kind is logged.

        `problem` is one of a few fixed phrases.
        """
        self.dropped[problem] += 1
        if self.dropped[problem] == 1:
            self._log.warn(
                "{account}: dropped a frame from Alpaca: {problem}; from now on these are only counted",
                account=self.name,
                problem=problem,
            )

    def _append(self, event: Event, came: float | None) -> None:
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

    def _hand_on(self, burst: Burst) -> None:
        if self._handing_on_since is None:
            self._handing_on_since = self._read_at if burst.came is None else burst.came
        self.bursts.observe(len(burst.rows))
        self.broadcaster.publish(burst)

    def _handed_on(self) -> None:
        since, self._handing_on_since = self._handing_on_since, None
        if since is not None:
            now = self._clock.seconds()
            self.pace.note(since, now)
            self.latency.observe(now - since)

    # How it is.

    def identify(self, account_id: str) -> None:
        """Note which account Alpaca says this is. If it is another one, the log begins anew.

        What was missed of the other one is lost, and so is every cursor: those who ask are told.
        """
        if self.journal.identify(account_id):
            self.gaps.settle(Outcome.LOST, ANOTHER_ACCOUNT)

    def _say_hello(self) -> None:
        self.broadcaster.announce(self.hello(self.journal.last))

    def upstream_is_up(self) -> None:
        """Note that Alpaca streams this account's events from now on; the gap before it has its end."""
        now = self._clock.seconds()
        self._upstream_is(UpstreamStatus(streaming=True, reason="streaming", since=now))
        if not self._has_streamed:  # in this process: the log may go back to another one
            self._has_streamed = True
            self.gaps.begin()
        else:
            self.reconnects += 1
        self.gaps.end(round(now * 1_000_000))

    def upstream_is_down(self, reason: str) -> None:
        """Note that Alpaca's stream is down; `since` stays where the outage began."""
        was = self.upstream
        since = self._clock.seconds() if was.streaming else was.since
        self._upstream_is(UpstreamStatus(streaming=False, reason=reason, since=since))
        if was.streaming:
            self.gaps.begin()

    def _upstream_is(self, status: UpstreamStatus) -> None:
        if status == self.upstream:
            return  # a further attempt has failed as the one before
        self.upstream = status
        self._tell(encode_upstream(status))

    def take_over(self) -> None:
        """Begin to hold the upstream, in the place of another process, which may have missed something."""
        self.upstream_is_down("connecting")
        self._has_streamed = False

    def follow(self, standing: Standing) -> None:
        """Have the upstream and the gaps of which the process that holds the upstream tells."""
        self.gaps.follow(standing.gaps)
        self._upstream_is(standing.upstream)

    @property
    def standing(self) -> Standing:
        """The upstream and the gaps, as whoever shares the account is told."""
        return Standing(self.upstream, tuple(self.gaps))

    def _tell(self, status: bytes) -> None:
        self.broadcaster.announce(status)
        self.on_standing(self.standing)

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
        return None if row is None else self.cursor_behind(row)

    def cursor_behind(self, row: Row) -> str | None:
        """Return the cursor just behind a row; None if the row may not outlive this process."""
        if not row.durable:
            return None
        return str(Cursor(self.name, self.journal.epoch, row.seq, check_of(row.payload)))
