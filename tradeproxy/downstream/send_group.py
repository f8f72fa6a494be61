"""Clients that keep up, served in one loop: the same bytes, offered to one socket after the other.

Nearly always a client has taken all that it was sent, and is to be sent what all others are. To find that
out client by client costs a third of what sending costs. A crowd knows it: whoever does not take a burst
whole, or says something, leaves, is served by its own feed, and joins again once that has nothing to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.tcp import Server
from twisted.logger import Logger

from tradeproxy.downstream.feed import MAX_DIRECT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.downstream.encoder import FrameEncoder
    from tradeproxy.hub.account import Account
    from tradeproxy.hub.broadcaster import Subscriber
    from tradeproxy.journal.base import Batch


MAX_GROUP_SIZE = 500
"""Members of one crowd, which are served without a break; more make another one."""


class GroupMember(Protocol):
    """A client that may be in a crowd. Compared and hashed by identity."""

    send_group: SendGroup | None
    account: Account

    @property
    def subscriber(self) -> Subscriber:
        """What is registered with the account's broadcaster while it is in no crowd."""

    @property
    def is_caught_up(self) -> bool:
        """Whether its socket has taken all that is in the log, and it is to be sent all that follows."""

    @property
    def send(self) -> Callable[[bytes], int]:
        """The socket's `send`."""

    def resume_feed(self, position: int, rest: bytes) -> None:
        """Write `rest`, and be served by its own feed from then on, whose position this is."""


class SendGroups:
    """All crowds of all accounts; their clients are sent the same frames."""

    def __init__(self, framing: FrameEncoder, clock: IReactorTime) -> None:
        self._encoder = framing
        self._clock = clock
        self._groups: dict[Account, list[SendGroup]] = {}
        self._offered: list[GroupMember] = []

    def offer(self, member: GroupMember) -> None:
        """Let `member` join a crowd at the end of this turn, if it is level then."""
        if not self._offered:
            self._clock.callLater(0, self._join_offered)
        self._offered.append(member)

    def _join_offered(self) -> None:
        offered, self._offered = self._offered, []
        for member in offered:
            # While the disk is full some events have no place in the log, and are all at that of one hole:
            # there a place does not tell which of them a client has had, and which its crowd is yet to get.
            durable = member.account.journal.status.durable
            if durable and member.send_group is None and member.is_caught_up:
                self._find_group(member.account).add(member)

    def _find_group(self, account: Account) -> SendGroup:
        position = account.journal.last
        crowds = [crowd for crowd in self._groups.get(account, ()) if crowd.size]
        self._groups[account] = crowds
        for crowd in crowds:
            if crowd.size < MAX_GROUP_SIZE and crowd.position == position:
                return crowd
        crowds.append(SendGroup(account, self._encoder, position))
        return crowds[-1]


class SendGroup:
    """Clients of one account, all at one position; one subscriber for all of them."""

    _log = Logger()

    def __init__(self, account: Account, framing: FrameEncoder, position: int) -> None:
        self.position = position
        self._account = account
        self._encoder = framing
        self._members: dict[GroupMember, Callable[[bytes], int]] = {}

    @property
    def size(self) -> int:
        """How many they are; at 0 it has ended."""
        return len(self._members)

    def add(self, member: GroupMember) -> None:
        """Serve `member` in the place of its own subscriber."""
        if not self._members:
            self._account.broadcaster.register(self)
        self._account.broadcaster.unregister(member.subscriber)
        self._members[member] = member.send
        member.send_group = self

    def remove(self, member: GroupMember) -> None:
        """Serve `member` no longer; nor does anybody else."""
        member.send_group = None
        del self._members[member]
        if not self._members:
            self._account.broadcaster.unregister(self)

    # What the broadcaster calls.

    def deliver(self, burst: Batch) -> None:
        """Send the burst to all, if it is next; else each sees for itself what to make of it."""
        frames = None
        if burst.first == self.position + 1 and not burst.overflow:
            frames = self._encoder.encode(burst, self._account)
        if frames is None or (len(frames) > MAX_DIRECT_BYTES and len(burst.rows) > 1):
            for member in tuple(self._members):
                self._release(member, b"", burst)
            return
        self.position = burst.last
        whole, taken = len(frames), {}
        for send in self._members.values():
            try:
                sent = send(frames)
            except (
                OSError
            ):  # it can take nothing now, or never again: the transport finds out which
                sent = 0
            if sent != whole:
                taken[send] = sent
        if taken:
            for member, send in tuple(self._members.items()):
                if send in taken:
                    self._release(member, frames[taken[send] :])

    def announce(self, status: bytes) -> None:
        """Nothing: none of them wants to be told."""

    def abort(self) -> None:
        """End all of them."""
        for member in tuple(self._members):
            self.remove(member)
            self._account.broadcaster.drop(member.subscriber)

    # The failure of one is its own, as it is at the broadcaster.

    def _release(self, member: GroupMember, rest: bytes, burst: Batch | None = None) -> None:
        """Leave `rest` and the burst to the member's own feed."""
        self.remove(member)
        try:
            member.resume_feed(self.position, rest)
            if burst is not None:
                member.subscriber.deliver(burst)
        except Exception:
            self._log.failure("a client could not leave its crowd, and is ended")
            self._account.broadcaster.drop(member.subscriber)


def is_plain_tcp(transport: Any) -> bool:
    """Whether this is a TCP connection of Twisted's own, accepted, with nothing in between."""
    return type(transport) is Server


def is_drained(connection: Any) -> bool:
    """Whether nothing waits on an Autobahn connection with a plain transport, and it is not ending."""
    transport = connection.transport
    return not (
        connection.send_queue
        or transport.dataBuffer
        or transport._tempDataBuffer  # what write_direct() has not joined to the other yet
        or transport.disconnecting
        or not transport.connected
    )


def write_direct(connection: Any, data: bytes, ordinary: Callable[[bytes], None]) -> bool:
    """Write to an Autobahn connection, and return whether its socket has taken all of it.

    Only where the transport is plain and the way is clear; else it goes by `ordinary`, Autobahn's own way.
    The rest of a short write_direct waits in the transport. No error is hidden: the transport meets it itself.
    """
    transport = connection.transport
    if not is_plain_tcp(transport) or not is_drained(connection):
        ordinary(data)
        return False
    try:
        sent: int = transport.socket.send(data)
    except OSError:  # it can take nothing now, or never again: the transport finds out which
        sent = 0
    if sent < len(data):
        transport.write(data[sent:])
        return False
    return True
