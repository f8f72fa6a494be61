"""Sends texts with Apprise, a library for a hundred services. It blocks, so it has a thread.

Apprise connects by itself: neither the rule for addresses nor the HTTP proxy of this program holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOutError

from tradeproxy.runtime.reactor import Reactor
from tradeproxy.webhooks.formats import OutgoingRequest
from tradeproxy.webhooks.sender import ReceiverAnswer
from tradeproxy.wire.credentials import Secret

NOTIFY_TIMEOUT = 30.0
"""Seconds for one message. The thread of one that takes longer goes on."""


class AppriseSender:
    """Sends one message at a time, each in a thread. There is never more than one thread."""

    def __init__(
        self,
        url: Secret,
        reactor: Reactor,
        notify: Callable[[str, str], bool] | None = None,
    ) -> None:
        """Create the sender.

        Args:
            url: Apprise's URL of the service.
            reactor: runs the results of the thread, and schedules the timeout.
            notify: called in the thread with the URL and the text; by default Apprise.
        """
        self._url = url
        self._reactor = reactor
        self._notify = notify_with_apprise if notify is None else notify
        self._thread: Thread | None = None

    def close(self) -> None:
        """Do nothing: Apprise connects for each message."""

    async def send(self, request: OutgoingRequest) -> ReceiverAnswer:
        """Send the body of a request, which is a text, and return what came of it."""
        if self._thread is not None and self._thread.is_alive():
            return ReceiverAnswer(None, "the message before is still being sent")
        done: Deferred[ReceiverAnswer] = Deferred()

        def work() -> None:
            try:
                is_sent = self._notify(self._url.reveal(), request.read_body().decode())
            except Exception as error:
                answer = ReceiverAnswer(None, f"Apprise failed with {type(error).__name__}")
            else:
                answer = (
                    ReceiverAnswer(200, "sent")
                    if is_sent
                    else ReceiverAnswer(None, "Apprise did not send it")
                )
            self._reactor.callFromThread(finish, answer)

        def finish(answer: ReceiverAnswer) -> None:
            if not done.called:
                done.callback(answer)

        # A daemon: the end of the process does not wait for a service.
        self._thread = Thread(target=work, name="apprise", daemon=True)
        self._thread.start()
        try:
            return await done.addTimeout(NOTIFY_TIMEOUT, self._reactor)
        except TimedOutError:
            return ReceiverAnswer(None, "no answer in time")


def notify_with_apprise(url: str, text: str) -> bool:
    """Send a text; return whether the service has accepted it."""
    import apprise  # an extra: only this format needs it

    _silence(logging.getLogger("apprise"))
    sender = apprise.Apprise()
    return sender.add(url) and bool(sender.notify(body=text, body_format=apprise.NotifyFormat.TEXT))


def _silence(logger: logging.Logger) -> None:
    # Its lines can have the URL. Without a handler, Python prints them to standard error.
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
