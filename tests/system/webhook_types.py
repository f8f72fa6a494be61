"""What a webhook sends, against the types that the receivers' own packages on npm have.

.venv/bin/trial tests.system.webhook_types

It installs them into .interop once, and is skipped where that is impossible.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.webhooks import webhook_with
from tests.system.interop.clients import InteropClient
from tests.system.interop.environments import ClientEnvironment, UnavailableError, prepare
from tradeproxy.webhooks.formats import build_request
from tradeproxy.webhooks.message import Message, Skipped

PACKAGES = (
    "typescript@5.9.3",
    "discord-api-types@0.38.57",
    "@slack/webhook@8.0.2",
    "@grammyjs/types@5.0.0",
)

TYPES = {
    "discord": (
        'import type { RESTPostAPIWebhookWithTokenJSONBody as Body } from "discord-api-types/v10";'
    ),
    "slack": 'import type { IncomingWebhookSendArguments as Body } from "@slack/webhook";',
    "telegram": (
        'import type { ApiMethods } from "@grammyjs/types";\n'
        'type Body = Parameters<ApiMethods<never>["sendMessage"]>[0];'
    ),
}
"""What imports the type of each format's body, as `Body`."""

URLS = {"telegram": "https://api.telegram.org/bot1:x/sendMessage?chat_id=-100"}

TEXTS = (
    "fill: buy 10 AAPL at 100.50, order *bot_1*",
    "@everyone <!channel> [x](https://e.example)",
)

OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--types", "node")


class WebhookTypeTests(SynchronousTestCase):
    """A member that a receiver does not have, or one of another type, is an error of the compiler.

    Each file is compiled a second time with such a member, so the check is known to work.
    """

    def setUp(self) -> None:
        client = InteropClient("the types of the receivers", ("tsc",), "", npm=PACKAGES)
        try:
            self.environment = prepare(client)
        except UnavailableError as reason:
            raise SkipTest(str(reason)) from None

    def check(self, name: str) -> None:
        """Compile the bodies of a format, and wrong ones."""
        suffixes = {"FORMAT": name} | ({"URL": URLS[name]} if name in URLS else {})
        webhook = webhook_with(**suffixes)
        bodies = [
            json.loads(build_request(webhook, _make_message(text), Skipped(), 0.0).read_body())
            for text in TEXTS
        ]
        self.assertEqual(compile_bodies(self.environment, name, bodies), "")
        for wrong in ({"text": 1, "content": 1}, {"colour": "red"}):
            found = compile_bodies(self.environment, name, [bodies[0] | wrong])
            self.assertIn("error TS", found, f"{name}: {wrong} was accepted")

    def test_discord_has_the_types_of_discord_api_types(self) -> None:
        """The body of "Execute Webhook"."""
        self.check("discord")

    def test_slack_has_the_types_of_its_package_for_webhooks(self) -> None:
        """Blocks included."""
        self.check("slack")

    def test_telegram_has_the_types_of_the_bot_api(self) -> None:
        """The parameters of `sendMessage`."""
        self.check("telegram")


def _make_message(text: str) -> Message:
    return Message("id-1", "trade_updates.fill", "paper", 0, b"{}", text)


def compile_bodies(
    environment: ClientEnvironment, name: str, bodies: list[dict[str, object]]
) -> str:
    """Return what the compiler says of these bodies; "" if their types are right."""
    lines = [TYPES[name], *(f"void ({json.dumps(body)} satisfies Body);" for body in bodies)]
    file = Path(environment.directory, f"{name}.mts")
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    command = [environment.find_program("tsc"), *OPTIONS, file.name]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=environment.directory, check=False, timeout=120
    )
    return done.stdout + done.stderr
