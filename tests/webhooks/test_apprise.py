"""Tests for tradeproxy.webhooks.apprise_sender."""

from __future__ import annotations

import logging
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.support.reactor import reactor
from tests.support.receiver import Receiver
from tests.support.webhooks import read_problems, webhook_with
from tradeproxy.webhooks.apprise_sender import NOTIFY_TIMEOUT, AppriseSender
from tradeproxy.webhooks.formats import build_request
from tradeproxy.webhooks.message import Skipped, build_proxy_message
from tradeproxy.webhooks.sender import ReceiverAnswer
from tradeproxy.webhooks.service import build_sender
from tradeproxy.wire.credentials import Secret

MESSAGE = build_proxy_message("paper", "upstream_up", 7, "Alpaca streams again", {})


class ThreadClock(Clock):
    """A clock whose threads hand over their results at once."""

    def callFromThread(self, call: Any, *args: Any) -> None:
        reactor.callFromThread(call, *args)


class AppriseSenderTests(TestCase):
    """One message, in a thread."""

    async def send(self, notify: Any) -> ReceiverAnswer:
        """Send a message with this function in place of Apprise."""
        request = build_request(self.webhook(), MESSAGE, Skipped(), 0.0)
        return await AppriseSender(Secret("ntfy://x"), reactor, notify).send(request)

    def webhook(self, url: str = "ntfy://topic") -> Any:
        """Return a webhook of the format apprise."""
        return webhook_with(FORMAT="apprise", URL=url)

    async def test_result_is_an_answer(self) -> None:
        """What was not sent is sent again later. The reason has no text of the library's."""

        def fail(url: str, text: str) -> bool:
            raise ValueError(url)

        self.assertEqual(await self.send(lambda *_: True), ReceiverAnswer(200, "sent"))
        self.assertEqual(
            await self.send(lambda *_: False), ReceiverAnswer(None, "Apprise did not send it")
        )
        self.assertEqual(
            await self.send(fail), ReceiverAnswer(None, "Apprise failed with ValueError")
        )

    async def test_library_sends_the_text(self) -> None:
        """Its own plugin for JSON, to a receiver of ours."""
        receiver = Receiver()
        await receiver.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.stop()))
        webhook = self.webhook(f"json://127.0.0.1:{receiver.port}/x")
        sender = build_sender(webhook, reactor, None, lambda: 0.0)
        answer = await sender.send(build_request(webhook, MESSAGE, Skipped(), 0.0))
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            receiver.received[0].document["message"], "paper: upstream_up: Alpaca streams again"
        )

    async def test_unknown_service_logs_no_url(self) -> None:
        """The library would print the URL to standard error."""
        webhook = self.webhook("unknown://hush")
        sender = build_sender(webhook, reactor, None, lambda: 0.0)
        answer = await sender.send(build_request(webhook, MESSAGE, Skipped(), 0.0))
        self.assertEqual(answer, ReceiverAnswer(None, "Apprise did not send it"))
        logger = logging.getLogger("apprise")
        self.assertFalse(logger.propagate)
        self.assertTrue(logger.handlers)

    async def test_service_that_hangs_has_one_thread(self) -> None:
        """Its message is given up; the next one waits until the thread has ended."""
        release, calls = Event(), []

        def hang(*_: str) -> bool:
            calls.append(release.wait(20))
            return True

        clock: Any = ThreadClock()
        sender = AppriseSender(Secret("x"), clock, hang)
        request = build_request(self.webhook(), MESSAGE, Skipped(), 0.0)
        sending = Deferred.fromCoroutine(sender.send(request))
        clock.advance(NOTIFY_TIMEOUT)
        self.assertEqual(await sending, ReceiverAnswer(None, "no answer in time"))
        self.assertEqual(
            await sender.send(request),
            ReceiverAnswer(None, "the message before is still being sent"),
        )
        release.set()
        thread: Any = sender._thread  # noqa: SLF001
        thread.join()
        self.assertEqual(calls, [True])

    def test_wrong_url_is_a_problem(self) -> None:
        """It is not quoted."""
        self.assertEqual(
            read_problems(PROXY_WEBHOOK_DESK_FORMAT="apprise", PROXY_WEBHOOK_DESK_URL="hush"),
            ("PROXY_WEBHOOK_DESK_URL: not a URL of Apprise, such as mailto://…",),
        )
