"""Send groups: the same bytes, sent to one socket after the other.

Most clients are caught up and get identical bytes. To check this for each client costs a third of
what sending costs. A send group checks it once, at the join, and sends to its members in one loop:

    served by   event                                          then served by
    ----------  ---------------------------------------------  ----------------------------------
    own feed    the socket took all; the client is caught up   the group, at the end of the turn
    group       the socket took a whole batch                  the group
    group       a short write, or an error of the socket       own feed: the event that was cut is
                                                               written, the next ones come from the
                                                               log
    group       a message, ping or close of the client         own feed
    group       a batch that is missing, without a place in    own feed
                the log, or too large for one write
    group       the connection is lost                         nothing
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.downstream.direct_write import DirectWriter, SendAll
from tradeproxy.downstream.encoder import FrameEncoder
from tradeproxy.hub.account import Account
from tradeproxy.hub.broadcaster import Subscriber
from tradeproxy.journal.base import Batch

MAX_DIRECT_BYTES = 256 * 1024
"""Bytes of the largest batch that a group sends in one write. A larger one is read from the log in
steps. A single event is always sent whole."""

MAX_GROUP_SIZE = 500
"""Members of one group. The loop over them does not yield; more clients form another group."""


class GroupMember(Protocol):
    """A client that can be in a send group. Compared and hashed by identity."""

    send_group: SendGroup | None
    account: Account

    @property
    def subscriber(self) -> Subscriber:
        """The subscriber that the broadcaster serves while the client is in no group."""

    def find_writer(self) -> DirectWriter | None:
        """Return how to write to its socket; None unless the client can join a group.

        It can if it is caught up, gets every event unfiltered, and nothing waits for its socket.
        """

    def take_position(self, position: int) -> None:
        """Record the last event that the group has sent, as it removes the client."""

    def resume_feed(self) -> None:
        """Continue with the client's own feed, from the next batch on."""

    def fall_behind(self, rest: bytes, position: int) -> None:
        """Write `rest` of the event at `position`, and continue with what the log has after it."""


class SendGroups:
    """The send groups of all accounts. All members get the frames of one encoder."""

    def __init__(self, encoder: FrameEncoder, clock: IReactorTime) -> None:
        self._encoder = encoder
        self._clock = clock
        self._groups: dict[Account, list[SendGroup]] = {}
        self._offered: list[GroupMember] = []

    def offer(self, member: GroupMember) -> None:
        """Add `member` to a group at the end of this turn, if it is still caught up then."""
        if not self._offered:
            self._clock.callLater(0, self._join_offered)
        self._offered.append(member)

    def _join_offered(self) -> None:
        offered, self._offered = self._offered, []
        for member in offered:
            # While the disk is full, events may overflow the backlog. They all get the sequence
            # number of one hole. Then equal positions do not mean that a client and a group have
            # sent the same events, so no client joins, nor while such events are being delivered.
            account = member.account
            is_safe = account.log.status.durable and not account.broadcaster.has_overflow
            if is_safe and member.send_group is None and (writer := member.find_writer()):
                self._find_group(account, writer.send_all).add(member, writer.target)

    def _find_group(self, account: Account, send_all: SendAll) -> SendGroup:
        position = account.log.last
        groups = [group for group in self._groups.get(account, ()) if group.size]
        self._groups[account] = groups
        for group in groups:
            is_free = group.size < MAX_GROUP_SIZE and group.position == position
            if is_free and group.send_all is send_all:
                return group
        groups.append(SendGroup(account, self._encoder, position, send_all))
        return groups[-1]


class SendGroup:
    """Clients of one account at one position in the log, all with TLS or all without.

    It is one subscriber for all of them.
    """

    _log = Logger()

    def __init__(
        self, account: Account, encoder: FrameEncoder, position: int, send_all: SendAll
    ) -> None:
        self.position = position
        self.send_all = send_all
        self.size = 0
        """The number of members. An empty group is unregistered and not used again."""
        self._account = account
        self._encoder = encoder
        self._members: dict[GroupMember, Any] = {}

    def add(self, member: GroupMember, target: Any) -> None:
        """Add `member`, which is a `target` of `send_all`, and unregister its own subscriber."""
        if not self._members:
            self._account.broadcaster.register(self)
        self._account.broadcaster.unregister(member.subscriber)
        self._members[member] = target
        self.size = len(self._members)
        member.send_group = self

    def remove(self, member: GroupMember) -> None:
        """Remove `member`. Nothing serves it until the caller registers its own subscriber."""
        member.send_group = None
        member.take_position(self.position)
        del self._members[member]
        self.size = len(self._members)
        if not self._members:
            self._account.broadcaster.unregister(self)

    # Called by the broadcaster.

    def deliver(self, batch: Batch) -> None:
        """Send the batch to all members if it is the next one and fits into one write.

        Otherwise pass it to each member's own feed. This runs for every client and event.
        """
        frames = None
        if batch.first == self.position + 1 and not batch.overflow:
            frames = self._encoder.encode(batch, self._account)
        if frames is None or (len(frames) > MAX_DIRECT_BYTES and len(batch.rows) > 1):
            for member in tuple(self._members):
                self._release(member, partial(_pass_on, member, batch))
            return
        self.position = batch.last
        if short := self.send_all(self._members.values(), frames):
            # Thousands of clients may read nothing. The rest of the batch would be a copy for each.
            ends = self._encoder.list_ends(batch, self._account)
            for member, target in tuple(self._members.items()):
                if target in short:
                    taken = short[target]
                    cut = bisect_left(ends, taken)
                    rest, position = frames[taken : ends[cut]], batch.rows[cut].seq
                    self._release(member, partial(member.fall_behind, rest, position))

    def announce(self, status: bytes) -> None:
        """Do nothing: no member subscribes to `proxy_status`."""

    def abort(self) -> None:
        """Drop all members."""
        for member in tuple(self._members):
            self.remove(member)
            self._account.broadcaster.drop(member.subscriber)

    # One member's failure must not affect the others. The broadcaster has the same rule.

    def _release(self, member: GroupMember, resume: Callable[[], None]) -> None:
        """Remove `member`, and call `resume`, which gives it to its own feed."""
        self.remove(member)
        try:
            resume()
        except Exception:
            self._log.failure("a client could not leave its send group and is dropped")
            self._account.broadcaster.drop(member.subscriber)


def _pass_on(member: GroupMember, batch: Batch) -> None:
    member.resume_feed()
    member.subscriber.deliver(batch)
