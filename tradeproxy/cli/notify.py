"""`tradeproxy notify test`: sends a test message to one webhook, and prints what came of it."""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tradeproxy.cli.reactor import run_coroutine
from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.config.settings import SettingsError, read_settings
from tradeproxy.config.webhooks import WebhookSettings
from tradeproxy.runtime.dates import SECOND
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.webhooks.formats import build_request
from tradeproxy.webhooks.message import Skipped, build_proxy_message
from tradeproxy.webhooks.retry import Verdict, judge


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    test = actions.add_parser("test", help="send a test message to a webhook")
    test.add_argument("name", metavar="NAME", help="the webhook, as in PROXY_WEBHOOK_<NAME>_URL")
    test.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")


def main(arguments: Namespace) -> int:
    """Send the message and print the result; return 0 if the receiver has accepted it, else 1.

    Raises SystemExit for a wrong setting or an unknown webhook.
    """
    try:
        settings = read_settings(os.environ, directory=Path.cwd(), env_file=arguments.env_file)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    webhooks = {webhook.name: webhook for webhook in settings.webhooks}
    webhook = webhooks.get(arguments.name.upper())
    if webhook is None:
        known = ", ".join(webhooks) or "there is none"
        raise SystemExit(f"there is no webhook {arguments.name!r}; the webhooks are: {known}")
    proxy = settings.connect_proxy
    verdict, reason = run_coroutine(lambda reactor: send_test(webhook, reactor, proxy))
    is_sent = verdict is Verdict.DELIVERED
    print(f"webhook {webhook.name}: {'sent: ' if is_sent else 'not sent: '}{reason}")
    return 0 if is_sent else 1


async def send_test(
    webhook: WebhookSettings, reactor: Reactor, proxy: ConnectProxy | None
) -> tuple[Verdict, str]:
    """Send a test message once; return what the receiver's answer means, and the answer."""
    from tradeproxy.webhooks.service import build_sender

    now = time.time()
    message = build_proxy_message(
        "", "test", round(now * SECOND), "a test message of tradeproxy", {}
    )
    sender = build_sender(webhook, reactor, proxy, time.time)
    answer = await sender.send(build_request(webhook, message, Skipped(), now))
    return judge(answer.status), answer.reason
