"""The account's one place for a connection: who has it, who is turned away, what is sent on it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import cycle, islice
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred, succeed

from tradeproxy.simulator.conversation import Conversation, Stage
from tradeproxy.simulator.faults import Fault, FaultKind, Spell
from tradeproxy.wire.messages import Authorization, encode, parse_client

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.secret import Credentials

REPEATABLE_EVENTS = 10_000
"""How many of the last events are remembered, to be sent again."""

Frame: TypeAlias = tuple[bytes, bool]
"""A payload, and whether it travels in a binary frame."""

CloseFrame: TypeAlias = tuple[int | None, str | None]
"""The code and the reason that a client closed with; either may be absent."""

GARBAGE: tuple[Frame, ...] = (
    (b'{"stream":"trade_updates","data":null}', False),  # really occurred
    (b"not JSON", False),
    (b'{"stream":"account_updates","data":{}}', False),
    (b'{"action":"error","data":{"error_message":"internal server error"}}', False),
    (b'{"stream":"trade_updates","data":{', True),
)


class Transport(Protocol):
    """What the slot asks of Autobahn's protocol and its factory."""

    factory: Any

    def sendData(self, data: bytes) -> None:
        """Write bytes that are framed already."""
        ...

    def sendCloseFrame(self, code: int) -> None:
        """Begin the closing handshake, with any code; once is enough."""
        ...

    def dropConnection(self, abort: bool) -> None:
        """End TCP, in order or by a reset."""
        ...


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """No place: HTTP 429, with a Retry-After in seconds or without."""

    retry_after: int | None = None


class Client:
    """The client that has the place. `close_frame` is the one it sent, once it has."""

    def __init__(self, slot: Slot, transport: Transport) -> None:
        self._slot = slot
        self._transport = transport
        self._conversation = Conversation(slot.authorize)
        self._silent_until = -inf
        self.close_frame: CloseFrame | None = None

    @property
    def listening(self) -> bool:
        """Whether events go to this client."""
        return self._conversation.stage is Stage.LISTENING

    @property
    def silent(self) -> bool:
        """Whether nothing at all is said to this client."""
        return self._slot.now() < self._silent_until

    def receive(self, payload: bytes) -> None:
        """Take one message of the client, and reply."""
        if self.silent:
            return
        reply = self._conversation.receive(parse_client(payload))
        if reply.message is not None:
            self.send([(encode(reply.message), self._slot.binary)])
        if reply.close:
            self.close(1000)

    def receive_close(self, frame: CloseFrame) -> None:
        """Take the client's close frame: nothing is sent to it any more."""
        self.close_frame = frame
        self._conversation.end()

    def send(self, frames: Iterable[Frame]) -> None:
        """Send frames, all in one write."""
        prepare = self._transport.factory.prepareMessage
        self._transport.sendData(b"".join(prepare(payload, binary).payloadHybi for payload, binary in frames))

    def hush(self, seconds: float | None) -> None:
        """Say nothing for some seconds; for good, without any."""
        self._silent_until = inf if seconds is None else self._slot.now() + seconds

    def close(self, code: int) -> None:
        """Begin the closing handshake; Autobahn drops the connection if the client does not answer."""
        self._conversation.end()
        self._transport.sendCloseFrame(code)

    def drop(self, abort: bool) -> None:
        """End TCP without a close frame: at once (RST), or once what was written is sent (FIN)."""
        self._conversation.end()
        self._transport.dropConnection(abort)


class Slot:
    """One connection at a time, as Alpaca allows an account. Faults befall whoever has it or asks for it."""

    def __init__(self, reactor: IReactorTime, *, binary: bool, credentials: Credentials | None) -> None:
        self.now = reactor.seconds
        self.binary = binary
        self.handshakes = 0
        self.last_close: CloseFrame | None = None
        self._credentials = credentials
        self._client: Client | None = None
        self._sent: deque[bytes] = deque(maxlen=REPEATABLE_EVENTS)
        self._spells: dict[FaultKind, Spell] = {}
        self._awaiting_listener: list[Deferred[None]] = []
        self._awaiting_end: list[Deferred[None]] = []

    @property
    def connected(self) -> bool:
        """Whether the place is taken."""
        return self._client is not None

    @property
    def listening(self) -> bool:
        """Whether whoever has the place listens to trade updates."""
        return self._client is not None and self._client.listening

    def when_listening(self) -> Deferred[None]:
        """Fire once a client listens, at once if one does."""
        return _wait(self._awaiting_listener, self.listening)

    def when_gone(self) -> Deferred[None]:
        """Fire once the place is free, at once if it is."""
        return _wait(self._awaiting_end, not self.connected)

    # Coming and going

    def admit(self, transport: Transport) -> Client | TurnedAway:
        """Give the place to a connection whose handshake has arrived, or turn it away."""
        self.handshakes += 1
        if throttle := self._befalls(FaultKind.THROTTLE):
            return TurnedAway(throttle.retry_after)
        if self._client is not None:
            return TurnedAway()
        self._client = Client(self, transport)
        return self._client

    def authorize(self, credentials: Credentials) -> Authorization:
        """Give the verdict on a login. Credentials are compared, and neither kept nor logged."""
        if self._befalls(FaultKind.REFUSE):
            return Authorization(False)
        if self._credentials is not None and credentials != self._credentials:
            return Authorization(False, message="access key verification failed")
        return Authorization(True)

    def receive(self, client: Client, payload: bytes) -> None:
        """Take one message of the client."""
        client.receive(payload)
        if client.listening:
            _fire(self._awaiting_listener)

    def release(self, client: Client) -> None:
        """Free the place: the client's connection has ended."""
        self._client = None
        self.last_close = client.close_frame
        _fire(self._awaiting_end)

    def end(self, code: int) -> Deferred[None]:
        """Send a close frame to the client, if any, and fire when it is gone: soon, whatever it does."""
        if self._client is not None:
            self._client.close(code)
        return self.when_gone()

    # Events and faults

    def publish(self, payloads: Sequence[bytes]) -> int:
        """Send events to the client if it listens, and return how many were sent; others are dropped."""
        self._sent.extend(payloads)
        return self._send([(payload, self.binary) for payload in payloads])

    def inject(self, fault: Fault) -> None:
        """Let a fault happen; without a client, only one that lasts has an effect."""
        match fault.kind, self._client:
            case FaultKind.THROTTLE | FaultKind.REFUSE, _:
                self._spells[fault.kind] = Spell(fault, self.now())
            case FaultKind.REPEAT, _:
                again = list(self._sent)[-fault.count :]
                self._send([(payload, self.binary) for payload in again])
            case FaultKind.GARBAGE, _:
                self._send(list(islice(cycle(GARBAGE), fault.count)))
            case FaultKind.SILENCE, Client() as client:
                client.hush(fault.seconds)
            case FaultKind.CLOSE, Client() as client:
                client.close(1000)
            case FaultKind.DROP | FaultKind.RESET, Client() as client:
                client.drop(abort=fault.kind is FaultKind.RESET)

    def _send(self, frames: Sequence[Frame]) -> int:
        client = self._client
        if client is None or not client.listening or client.silent or not frames:
            return 0
        client.send(frames)
        return len(frames)

    def _befalls(self, kind: FaultKind) -> Fault | None:
        spell = self._spells.get(kind)
        if spell is None:
            return None
        if not spell.strikes(self.now()):
            del self._spells[kind]
            return None
        return spell.fault


def _wait(waiting: list[Deferred[None]], already: bool) -> Deferred[None]:
    if already:
        return succeed(None)
    waiting.append(Deferred())
    return waiting[-1]


def _fire(waiting: list[Deferred[None]]) -> None:
    fired, waiting[:] = waiting[:], []
    for deferred in fired:
        deferred.callback(None)
