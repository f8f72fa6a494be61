"""One webhook and one account: sends the wanted events of the log in their order, at least once.

    state     event                                          next state
    --------  ---------------------------------------------  ---------------------------------
    waiting   this node may send, and the log can be read    ready, at the stored position
    ready     an event is wanted                             sending
    sending   accepted, or refused for good                  ready: the event is done
    sending   no answer, 408, 429, 5xx or a redirect         retrying: the same event, later
    sending   401, 403, 404 or 410                           stopped: the event is not done
    retrying  the delay is over                              sending; ready if it is too old now
    any       this node may no longer send                   waiting: what is in flight is cut off

One request is in flight. The log holds what waits. It holds the body of a large event too, which is
read for each piece that is sent. So a receiver that hangs costs a piece, and delays no other.

An event less than REST after the last message waits for the next `look`. A message between two
events leaves cold caches, so the second one reaches the clients a quarter later. Thus most events
are spared that, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tradeproxy.config.webhooks import WebhookSettings
from tradeproxy.hub.account import INTERNAL_ERROR, Account
from tradeproxy.hub.log_tail import ReplacedLogError
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.webhooks.delivery_log import DeliveryLog
from tradeproxy.webhooks.formats import build_request
from tradeproxy.webhooks.message import Message, Skipped
from tradeproxy.webhooks.positions import MAX_AGE, StoredPosition
from tradeproxy.webhooks.queue import MessageQueue
from tradeproxy.webhooks.retry import RetrySchedule, Verdict, judge
from tradeproxy.webhooks.sender import ReceiverAnswer, Sender
from tradeproxy.webhooks.state import DeliveryState, DeliveryStats

REST = 1.0
"""Seconds after a message in which no new event starts the next one."""


def may_send(account: Account) -> bool:
    """Whether this node sends the messages about an account, and stores how far they are."""
    role = account.role
    return account.log.is_loaded and (role is None or role.is_writing)


class _InterruptedError(Exception):
    """The delivery stops, or this node may no longer send."""


class Delivery:
    """Sends the messages of one webhook about one account. It is idle until `start`."""

    def __init__(
        self,
        webhook: WebhookSettings,
        account: Account,
        sender: Sender,
        node: str,
        clock: IReactorTime,
        random: Callable[[], float],
        on_stopped: Callable[[str], None],
        stats: DeliveryStats | None = None,
    ) -> None:
        """Create the delivery.

        Args:
            webhook: what is wanted, and in which format.
            account: its log is read, and its state is watched.
            sender: sends one request at a time.
            node: identifies this process.
            clock: timers.
            random: returns floats from 0 to 1.
            on_stopped: called with the reason if the receiver refuses the URL.
            stats: the numbers of an earlier delivery, to continue with; by default new ones.
        """
        self.webhook = webhook
        self.account = account
        self.stats = stats or DeliveryStats(webhook.name, webhook.format.value, account.name)
        self.stats.state, self.stats.reason = DeliveryState.WAITING, ""
        self._log = DeliveryLog(self.stats)
        self._sender = sender
        self._clock = clock
        self._random = random
        self._on_stopped = on_stopped
        self._queue = MessageQueue(webhook, account, node, self._log, self._wake_soon)
        self._is_running = False
        self._is_waking = False
        self._rest_until = 0.0
        self._is_cut_off = False
        self._waiting: Deferred[None] | None = None
        self._sending: Deferred[Any] | None = None
        self._running: Deferred[None] | None = None

    # For the service.

    def start(self, stored: Callable[[], StoredPosition | None]) -> None:
        """Begin; `stored` returns the position of an earlier process once the log can be read."""
        self._is_running = True
        self.account.on_state[self] = self._observe
        self._running = Deferred.fromCoroutine(self._run(stored))
        self._running.addErrback(self._fail)

    def _fail(self, failure: Failure) -> None:
        self._log.record_error("it has failed", failure)
        self._queue.stop()
        self.account.on_state.pop(self, None)
        self.stats.state, self.stats.reason = DeliveryState.STOPPED, INTERNAL_ERROR

    def stop(self) -> Deferred[None] | None:
        """End; what is in flight is cut off, and sent again by the next start."""
        self._is_running = False
        self.account.on_state.pop(self, None)
        self._interrupt()
        return self._running

    def stop_for(self, reason: str) -> None:
        """End, because the receiver has refused the URL."""
        self.stats.state, self.stats.reason = DeliveryState.STOPPED, reason
        self.stop()

    def look(self) -> None:
        """Look at the state of the account and at this node's role: call it every second."""
        if not may_send(self.account):
            self._interrupt()
            return
        self._observe()
        self._wake()

    def _observe(self) -> None:
        if self._is_running and may_send(self.account):
            self._queue.observe()

    def finish(self) -> None:
        """Have the next `take_position` return the position in any case."""
        self._queue.is_changed = True

    def take_position(self) -> StoredPosition | None:
        """Return the position if it has changed since the last call, and can be stored."""
        return self._queue.take_position() if may_send(self.account) else None

    # The conversation.

    async def _run(self, read_stored: Callable[[], StoredPosition | None]) -> None:
        position: StoredPosition | None = None
        while self._is_running:
            try:
                self._check()
                self._queue.start(position or read_stored())
                self.stats.state, self.stats.reason = DeliveryState.READY, ""
                while True:
                    await self._deliver_next()
            except _InterruptedError:
                position = None  # another node may have sent, and reported, since
                self._queue.forget(is_outdated=not may_send(self.account))
                await self._pause()
            except UnreadableError:
                position = self._queue.get_position()
                await self._pause()
            except ReplacedLogError:
                position = self._queue.get_position()
                self._queue.stop()
        self._sender.close()

    async def _pause(self) -> None:
        self._queue.stop()
        if self.stats.state is not DeliveryState.STOPPED:
            self.stats.state, self.stats.reason = DeliveryState.WAITING, ""
        if self._is_running:
            await self._wait()

    def _check(self) -> None:
        if not may_send(self.account) or not self._is_running:
            raise _InterruptedError

    async def _deliver_next(self) -> None:
        self._check()
        message = self._queue.find_next()
        if not self._queue.is_at_end:
            self._clock.callLater(0, self._wake)  # an event that has come meanwhile is first
        await self._wait()
        if message is not None:
            self._check()
            await self._deliver(message)
            self._queue.take(message)
            self._rest_until = self._clock.seconds() + REST

    async def _deliver(self, message: Message) -> None:
        """Send a message until it is done: accepted, refused for good, or too old."""
        schedule = RetrySchedule(self._random)
        while self._is_old(message) and self.account.dates.alpaca() is None:
            await self._wait()  # this machine's clock may be wrong by years
            self._check()
        while True:
            if self._is_old(message):
                self._queue.skip(1, message.time, message.time)
                break
            if schedule.failures == 0:
                self.stats.state = DeliveryState.SENDING
            try:
                sending = self._send(message)
            except TrimmedError:
                self._queue.skip(1, message.time, message.time)
                break
            answer: ReceiverAnswer = await self._interruptible(sending)
            match judge(answer.status):
                case Verdict.DELIVERED:
                    self._log.record_sent(schedule.failures, self.account.dates.own())
                    self._queue.skipped = Skipped()
                    break
                case Verdict.REJECTED:
                    self._log.record_rejected(message.id, answer.reason)
                    break
                case Verdict.STOP:
                    self._on_stopped(f"the receiver answers {answer.reason}")
                    raise _InterruptedError
                case Verdict.RETRY:
                    delay = schedule.delay(answer.retry_after)
                    self._log.record_failure(answer.reason, delay, schedule.failures)
                    await self._interruptible(deferLater(self._clock, delay))
        self.stats.state, self.stats.reason = DeliveryState.READY, ""

    def _send(self, message: Message) -> Deferred[ReceiverAnswer]:
        """Send a message once. Raises what `load` of the queue raises."""
        # This is no coroutine: that would keep a large body until the answer.
        skipped, now = self._queue.skipped, self.account.dates.own()
        request = build_request(self.webhook, self._queue.load(message), skipped, now)
        if message.dropped is not None:
            request = replace(
                request, read_body=lambda: self._queue.load(message).build_envelope(skipped)
            )
        return Deferred.fromCoroutine(self._sender.send(request))

    async def _interruptible(self, work: Deferred[Any]) -> Any:
        """Await a Deferred that `_interrupt` cancels. A cancelled request may fail otherwise."""
        self._sending, self._is_cut_off = work, False
        try:
            result = await work
        except CancelledError:
            raise _InterruptedError from None
        finally:
            self._sending = None
        if self._is_cut_off:
            raise _InterruptedError
        return result

    def _interrupt(self) -> None:
        if self._sending is not None:
            self._is_cut_off = True
            self._sending.cancel()
        self._wake()

    # Waiting.

    async def _wait(self) -> None:
        self._waiting = Deferred()
        await self._waiting

    def _wake(self) -> None:
        self._is_waking = False
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    def _wake_soon(self) -> None:
        # This is called within the delivery to the clients.
        is_resting = self._clock.seconds() < self._rest_until
        if self._waiting is not None and not self._is_waking and not is_resting:
            self._is_waking = True
            self._clock.callLater(0, self._wake)

    def _is_old(self, message: Message) -> bool:
        now = self.account.dates.now_microseconds()
        return message.time is not None and now - message.time > MAX_AGE
