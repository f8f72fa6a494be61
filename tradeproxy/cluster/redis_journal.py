"""The journal of an account that lives in Redis: what the leader appends, and every node reads back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.cluster.outbox import SHORTER, Outbox
from tradeproxy.cluster.redis_client import AwayError
from tradeproxy.cluster.redis_log import Beginning, SharedLog
from tradeproxy.cluster.redis_status import Reach
from tradeproxy.cluster.replica import Replica, later
from tradeproxy.cluster.tailer import AGAIN, Follower
from tradeproxy.journal.backlog import newer
from tradeproxy.journal.base import TRIM_STEP, Burst, Trimming
from tradeproxy.journal.metadata import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.cluster.redis_client import Link
    from tradeproxy.cluster.redis_log import Look, Place, Told, Written
    from tradeproxy.wire.event import Event, OrderState
    from tradeproxy.wire.proxy_status import JournalStatus

BOUNDS = ("epoch", "base_url", "trimmed", "begins")
"""Facts that change only where an epoch begins, or rows are trimmed."""

NOT_READ = "it has not all been read yet"


class RedisJournal(Replica):
    """One account's log, in Redis; implements hub.journal.Journal, which says what may be relied on.

    It is read here from a replica of the whole log, which this node fills by itself. What is appended, if
    this node leads, is handed on when it is read back: so every node has one order of events.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        links: tuple[Link, Link],
        owner: str,
        clock: IReactorTime,
        *,
        base_url: str,
        max_age: float,
        max_events: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Of the links, one is for what takes no time, the other waits for what comes."""
        super().__init__(base_url)
        self.name = name
        self.on_standing: Callable[[str], None] = lambda _: None
        """Called with what the leader says of the stream."""
        self.on_reached: Callable[[], None] = lambda: None
        """Called when Redis can be asked again, before anything is written."""
        self.is_whole = False
        self.end = 0
        """The newest number in the log, as it was when this node last looked."""
        self._configured_url = base_url
        self._clock = clock
        self._max_age = round(max_age * 1_000_000)
        self._max_events = max_events
        self._random_bytes = random_bytes
        self._reach = Reach(name, links, clock, self._is_reached, self._status_changed)
        self.status = self._reach.status
        self.shared = SharedLog(name, owner, links[0])
        self._follower = Follower(name, SharedLog(name, owner, links[1]), self, clock)
        self.outbox = Outbox(self.shared, clock)
        self.outbox.on_written = self._written
        self._is_beginning = False  # another epoch, in which what is here counts for nothing
        self._trimming = Trimming(clock, self._trim)
        self._token: str | None = None
        self._heard = ""  # since this node led last

    # Opening and closing.

    def open(self) -> None:
        """Begin to follow the log; raises nothing: a Redis that is away may come."""
        self._reach.open()
        self._follower.start()
        self._trimming.start()

    def close(self) -> None:
        """Let go; harmless if that has been done. What is not written by now is given up."""
        self._trimming.stop()
        self._follower.stop()
        self._reach.close()
        super().close()

    # Leading. What cluster.leadership.Leadership calls.

    def may_lead(self, look: Look | None) -> bool:
        """Whether this node has all that the log has, as far as it knows."""
        if look is None or not self._reach.is_up:
            return False
        return look.epoch is None or (self.is_whole and look.epoch == self.epoch and look.last <= self.last)

    def looked(self, look: Look, asked: frozenset[object], last: int) -> None:
        """Take notice of where the log ends; `asked` and `last` are `absent.asked` and `last` from before."""
        self.end = look.last
        if look.epoch != self.epoch or look.last < last:
            self._follower.doubt()
        if look.owner not in (None, self.shared.owner):
            self.outbox.drop_events()  # that node finds them by itself
        if look.epoch == self.epoch:
            self.absent.settle(asked, look.last)
            self.absent.reached(self.last)

    async def lead(self, look: Look, *, on: bool = False) -> None:
        """Write from now on; done when all that the log holds has been read, and it is this account's.

        `on` is for a node that has led until now, so that it knows best. Fails with AwayError.
        """
        assert look.token is not None
        self._token, self._heard = look.token, ""
        while True:
            place = await self.shared.place(0)
            if self._token != look.token:
                raise AwayError("the log has been read anew meanwhile")
            if not place.facts or place.facts["base_url"] != self._configured_url:
                self._open_epoch(look)
                return
            if self.is_whole and (place.facts["epoch"], place.last) == (self.epoch, self.last):
                break
            await deferLater(self._clock, AGAIN)
        if not on:
            self.adopt(place.facts)
        self._begin_to_write(look)
        self._save()

    def _open_epoch(self, look: Look) -> None:
        if self.base_url != self._configured_url:
            self.forget_account(self._configured_url)
        self._begin_to_write(look)
        self._begin_anew()

    def _begin_to_write(self, look: Look) -> None:
        assert look.token is not None
        keep = look.previous in ("", self.shared.owner)  # then what is left has been met by nobody
        if not keep:
            self.forget_what_is_not_read()
        self.outbox.begin(look.token, self.last, keep=keep)

    def stop_leading(self) -> None:
        """Write no more."""
        self._token = None
        self.outbox.end()

    def say(self, standing: str) -> None:
        """Tell every node how the stream is; nothing happens unless this node leads."""
        if self.outbox.leads:
            self.outbox.say(standing)

    # The way in.

    def append(self, events: Sequence[Event]) -> None:
        """Let new events be written; they are handed to `on_committed` when they are read back."""
        now = self._now()
        for event in events:
            if self._knows(event):
                self.duplicates += 1
            elif self.outbox.add(event, now):
                self.latest = later(self.latest, event.time)
        self.outbox.go_on()

    def _written(self, written: Written, seconds: float) -> None:
        self.duplicates += written.dropped
        self.commits.observe(seconds)
        self.outbox.read_back(self.last)

    def _is_reached(self) -> None:
        self.on_reached()
        self.outbox.start_over()

    # What the follower calls.

    def fits(self, place: Place) -> bool:
        """Whether the row read last is in the log, or has been the last to be trimmed from it."""
        trimmed = int(place.facts["trimmed"])
        if place.last < self.last:
            return False
        if self.last <= trimmed:
            return self.last == trimmed
        row = self.row(self.last)
        return row is None or row.payload == place.payload

    def begin_at(self, place: Place) -> None:
        """Read the whole log, which is not the one that was read before."""
        was_empty, own = not self.epoch, self.known_facts()
        self.is_whole = self._is_beginning = False
        self.restart(place.facts)
        if was_empty and self.outbox.leads:
            self.adopt(own)  # it has begun this log, and moved on since
        elif not was_empty:
            self._log.warn(
                "{account}: the log in Redis is another one than before: it is read anew", account=self.name
            )
            self._end_turn()
            self.on_broken()

    def _end_turn(self) -> None:
        """Write nothing more to a log that has lost its end: what is missing is to be found first."""
        self.outbox.drop_events()
        self._token = None
        if self.outbox.leads:
            self.outbox.end()
            self.outbox.on_refused(SHORTER)

    def change(self, begun: Beginning) -> bool:
        """Go on in another epoch, and return whether that is possible: it must begin where this node is."""
        if not self.epoch or (begun.after_epoch, begun.after) != (self.epoch, self.last):
            return False
        own = self.known_facts()
        if "latest" in begun.facts:
            self.go_on(begun.facts)
        else:  # another account's, or there was nothing yet
            self.restart(begun.facts)
        if self.outbox.leads:
            self.adopt(own)  # it has moved on since
        self._is_beginning = False
        self.on_begun()
        return True

    def add(self, told: Sequence[Told]) -> None:
        """Take what comes next, and hand it on."""
        rows = self.extend(told)
        if self.outbox.leads:
            self.kinds.update([each.event.kind for each in told])
        self.outbox.read_back(self.last, [each.event for each in told])
        if self.is_whole:
            came = told[0].received / 1_000_000 if self.outbox.leads else self._clock.seconds()
            self.on_committed(Burst(rows, came=came))

    def hear(self, standing: str) -> None:
        """Pass on how another node says the stream is; if this one leads, once it knows that it does not."""
        self._heard = standing
        if not self.outbox.leads:
            self.on_standing(standing)

    def hear_again(self) -> None:
        """Pass on what another node has said while this one took itself for the leader."""
        if self._heard:
            self.on_standing(self._heard)

    def is_at(self, end: int | None) -> None:
        """Note that all has been read that there was."""
        self.end = self.end if end is None else end
        self.is_whole = self.is_whole or self.last >= self.end
        if self.is_whole:
            self._reach.is_followed()
        else:
            self._reach.is_lost(NOT_READ)

    def is_away(self, reason: str) -> None:
        """Note why there is nothing to read."""
        self._reach.is_lost(reason)

    def _status_changed(self, status: JournalStatus) -> None:
        self.status = status
        self.on_status(status)

    @property
    def is_current(self) -> bool:
        """Whether all that is in the log, and all that this node has to say to it, has been read."""
        return self.status.durable and self.last >= self.end and self.outbox.is_empty

    # The way out, where the replica is not all of it: the outbox has what is yet to be read back.

    def _knows(self, event: Event) -> bool:
        return super()._knows(event) or self.outbox.has(event)

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event told of."""
        known, told = self.state_of(order_id), self.outbox.order(order_id)
        return known if told is None else newer(known, told)

    def open_orders(self) -> Sequence[OrderState]:
        """Return every order that was open when an event last told of it."""
        states = {state.id: state for state in self.open_states()}
        for told in self.outbox.orders:
            states[told.id] = newer(self.state_of(told.id), told)
        return [state for state in states.values() if state.is_open]

    # What is kept beside the events.

    def identify(self, account_id: str) -> bool:
        """Begin a new epoch if the log is another account's; return whether it is. The numbers go on."""
        known = self.account_id
        if known == account_id:
            return False
        if known is not None:
            self.outbox.drop_events()
            self.forget_account(self._configured_url)
        self.account_id = account_id
        if known is None:
            self._save()
        else:
            self._begin_anew()
        return known is not None

    def _save(self) -> None:
        if self.outbox.leads:
            kept = self.facts().items()
            self.outbox.save({key: value for key, value in kept if key not in BOUNDS})

    def _begin_anew(self) -> None:
        """Let another epoch begin where the log ends now; it does when that is read back."""
        begun = Facts(self.base_url)
        begun.take_up(self.known_facts(), None)
        begun.latest = self.read_through  # what waits is written after it
        begun.begin_epoch(self._random_bytes(8).hex(), self.last + 1, self._now())
        self.horizon = begun.horizon
        self._is_beginning = True
        self.outbox.begin_epoch(self.last, Beginning(self.epoch, self.last, begun.known_facts()))

    # Trimming.

    def _trim(self) -> bool:
        """Trim some rows that are due, here and in Redis if this node leads; return whether more may be."""
        count = self.trim_before(self.last - self._max_events + 1, self._now() - self._max_age)
        token = self.outbox.token  # it has none before the facts in Redis have been taken up
        if count and token is not None and not self._is_beginning:
            trimmed = Deferred.fromCoroutine(self.shared.trim(token, self.first - 1, self.facts()))
            trimmed.addErrback(lambda failure: failure.trap(AwayError))
        return count == TRIM_STEP

    def _now(self) -> int:
        return round(self._clock.seconds() * 1_000_000)
