"""Tests for tradeproxy.reload.reload: what a reload replaces in a running proxy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent

from tests.support.frames import AUTH, AUTHENTICATED, FILL
from tests.support.journals import event
from tests.support.proxy import Client, ProxyTestCase
from tests.support.webhooks import MemoryReceiver
from tradeproxy.config.logging import Level
from tradeproxy.config.settings import Settings, read_settings
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.reload.reload import Reload, ReloadTargets, ignore_level
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.webhooks.service import Webhooks
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.event import format_time

OLD, KEPT, NEW = "old-token-of-16-characters", "kept-token-of-16-chars", "new-token-of-16-chars"
REMOVED = (4001, "this token is no longer one of this proxy's PROXY_TOKENS")
SSE = "/trade-updates-paper/v2/events/trades"


def auth(token: str) -> bytes:
    """Return an auth message with a token as the key."""
    return json.dumps({"action": "auth", "key": token, "secret": "x"}).encode()


class ReloadTestCase(ProxyTestCase):
    """The site, and a reload whose next settings are those of `variables`."""

    def setUp(self) -> None:
        super().setUp()
        self.variables = {
            "ALPACA_API_KEY": "key",
            "ALPACA_SECRET_KEY": "secret",
            "PROXY_TOKENS": ",".join(self.tokens),
            "PROXY_ALLOWED_HOSTS": ",".join(self.hosts),
            "PROXY_ALLOWED_ORIGINS": ",".join(self.origins),
        }
        self.levels: list[Level] = []
        self.keys = AccountKeys(self.read().accounts[0])
        self.rest_admission = Admission(self.hosts, (), Tokens(()))
        self.targets = ReloadTargets(
            self.accepted_tokens,
            self.factory.clients,
            self.admission,
            self.rest_admission,
            [self.keys],
            self.levels.append,
        )
        self.reload = Reload(self.read(), self.read_again, self.targets)
        self.is_readable = True

    def read(self) -> Settings:
        return read_settings(self.variables, directory=Path("/nowhere"), ipv6_loopback=True)

    def read_again(self) -> Settings | None:
        return self.read() if self.is_readable else None

    def run_with(self, **variables: str) -> list[str]:
        """Reload with these variables changed, and return the log lines."""
        self.variables |= variables
        with capturedLogs() as logs:
            self.reload.run()
        self.wires.flush()
        return [f"{event['log_level'].name} {formatEvent(event)}" for event in logs]


class ReloadTokensTests(ReloadTestCase):
    """Tokens are removed and added."""

    tokens = (OLD, KEPT)

    def join(self, token: str) -> Client:
        """Connect a client that sends a token in its auth message."""
        client = self.connect()
        self.assertEqual(self.say(client, auth(token)), [AUTHENTICATED])
        return client

    def test_removed_token_closes_its_clients_4001(self) -> None:
        """By whichever way they sent it. The others stay, and get the next event."""
        by_header = self.connect(Authorization=f"Bearer {OLD}")
        self.say(by_header, AUTH)
        unauthenticated = self.connect(Authorization=f"Bearer {OLD}")
        by_message, kept = self.join(OLD), self.join(KEPT)
        sse = self.request(SSE, Authorization=f"Bearer {OLD}")
        kept_sse = self.request(SSE, Authorization=f"Bearer {KEPT}")
        both = self.connect(APCA_API_KEY_ID=OLD, APCA_API_SECRET_KEY=KEPT)
        lines = self.run_with(PROXY_TOKENS=f"{KEPT},{NEW}")
        self.assertIn("info the settings were read again: PROXY_TOKENS", lines)
        self.assertEqual(lines[-1], "info closed 4 clients without a valid token")
        for client in (by_header, unauthenticated, by_message):
            self.assertEqual(client.closed, REMOVED)
        self.assertEqual((sse.gone, kept_sse.gone), (True, False))
        self.assertEqual((kept.closed, both.closed), (None, None))
        self.publish(self.paper, FILL)
        self.assertEqual(kept.taken(), [FILL])
        self.assertEqual(self.upgrade(Authorization=f"Bearer {OLD}").status, 401)
        self.assertEqual(self.upgrade(Authorization=f"Bearer {NEW}").status, 101)

    def test_removed_token_is_no_wrong_token(self) -> None:
        """After ten wrong ones from an address each answer takes a second: even the close would."""
        clients = [self.join(OLD) for _ in range(12)]
        self.run_with(PROXY_TOKENS=KEPT)
        self.assertEqual({client.closed for client in clients}, {REMOVED})
        self.assertEqual(len(self.factory.wrong_tokens), 0)

    def test_client_that_has_not_sent_a_token_may_send_a_new_one(self) -> None:
        """Its handshake was before the reload, its auth message comes after it."""
        waiting, late = self.connect(), self.connect()
        self.run_with(PROXY_TOKENS=NEW)
        self.assertEqual(self.say(waiting, auth(NEW)), [AUTHENTICATED])
        self.say(late, auth(OLD))
        assert late.closed is not None
        self.assertEqual(late.closed[0], 4001)

    def test_second_auth_message_decides(self) -> None:
        """A client may send another token on the same connection before the old one is removed."""
        client = self.join(OLD)
        self.say(client, auth(KEPT))
        self.run_with(PROXY_TOKENS=KEPT)
        self.assertIsNone(client.closed)

    def test_last_token_is_not_removed(self) -> None:
        """The proxy may listen for other machines: without tokens it would be open to them."""
        client = self.join(KEPT)
        lines = self.run_with(PROXY_TOKENS="")
        self.assertEqual(lines[0], "warn a restart is needed for PROXY_TOKENS")
        self.assertIsNone(client.closed)
        self.assertEqual(self.upgrade(Authorization="Bearer other").status, 401)


class ReloadFirstTokensTests(ReloadTestCase):
    """A proxy without tokens gets some."""

    def test_first_tokens_close_clients_1012(self) -> None:
        """What they sent was not looked at: a client with the right token reconnects with it."""
        clients = [self.connect(), self.connect(Authorization=f"Bearer {NEW}")]
        for client in clients:
            self.say(client, auth(NEW))
        self.run_with(PROXY_TOKENS=NEW)
        for client in clients:
            self.assertEqual(client.closed, (1012, "a token is needed now: reconnect with one"))
        self.assertEqual(self.upgrade(Authorization=f"Bearer {OLD}").status, 401)


class ReloadRestTests(ReloadTestCase):
    """A proxy that forwards the REST interface gets tokens, which the two exclude."""

    def setUp(self) -> None:
        super().setUp()
        self.reload.settings = replace(self.reload.settings, rest=True)

    def test_tokens_wait_for_the_restart_that_ends_rest(self) -> None:
        """Until then, a token in `Authorization` would be forwarded to Alpaca."""
        client = self.connect()
        self.say(client, AUTH)
        for rest in ("0", ""):
            lines = self.run_with(PROXY_TOKENS=NEW, PROXY_REST=rest)
            self.assertEqual(
                lines,
                [
                    "warn a restart is needed for PROXY_REST, PROXY_TOKENS",
                    "info the settings were read again: nothing has changed",
                ],
            )
            self.assertIsNone(client.closed)
            self.assertEqual(self.accepted_tokens.match(), ())


class ReloadRulesTests(ReloadTestCase):
    """Hosts, origins, the log level, and keys."""

    hosts = ("old.example",)
    origins = ("https://old.example",)

    def test_hosts_and_origins_are_replaced(self) -> None:
        """For the stream and for the REST proxy, which still serves no page of another origin."""
        lines = self.run_with(
            PROXY_ALLOWED_HOSTS="new.example", PROXY_ALLOWED_ORIGINS="https://new.example"
        )
        changed = "PROXY_ALLOWED_HOSTS, PROXY_ALLOWED_ORIGINS"
        self.assertEqual(lines, [f"info the settings were read again: {changed}"])
        statuses = {
            (host, origin): self.upgrade(Host=host, Origin=origin).status
            for host in ("old.example", "new.example")
            for origin in ("https://old.example", "https://new.example")
        }
        self.assertEqual(
            [pair for pair, status in statuses.items() if status == 101],
            [("new.example", "https://new.example")],
        )

    def test_names_of_addresses_stay_allowed(self) -> None:
        """PROXY_HOST needs a restart, so clients still use the names in it."""
        self.reload.settings = replace(self.reload.settings, listen_names=("desk.example",))
        self.run_with(PROXY_ALLOWED_HOSTS="new.example")
        self.assertEqual(self.upgrade(Host="desk.example").status, 101)

    def test_level_is_set(self) -> None:
        """Also if nothing else has changed."""
        lines = self.run_with(PROXY_LOG_LEVEL="debug")
        self.assertEqual(lines, ["info the settings were read again: PROXY_LOG_LEVEL"])
        self.assertEqual(self.levels, [Level.DEBUG])

    def test_level_of_another_log_is_not_said_to_change(self) -> None:
        """The own log of twistd has no level."""
        self.reload = Reload(
            self.read(), self.read_again, replace(self.targets, set_log_level=ignore_level)
        )
        lines = self.run_with(PROXY_LOG_LEVEL="debug")
        self.assertEqual(lines, ["info the settings were read again: nothing has changed"])

    def test_keys_are_replaced(self) -> None:
        """A service that waits after a refusal learns of it. The line has no key."""
        changes: list[None] = []
        self.keys.on_change = lambda: changes.append(None)
        lines = self.run_with(ALPACA_SECRET_KEY="hush")
        self.assertEqual(lines, ["info the settings were read again: the keys of paper"])
        self.assertEqual(self.keys.credentials, KeyPair(Secret("key"), Secret("hush")))
        self.assertEqual(len(changes), 1)

    def test_keys_for_another_url_are_not_taken(self) -> None:
        """They would be sent to the old one."""
        lines = self.run_with(ALPACA_SECRET_KEY="hush", ALPACA_URL="https://other.example")
        self.assertEqual(
            lines,
            [
                "warn a restart is needed for ALPACA_URL",
                "info the settings were read again: nothing has changed",
            ],
        )
        self.assertEqual(self.keys.credentials, KeyPair(Secret("key"), Secret("secret")))

    def test_what_needs_a_restart_is_named_each_time(self) -> None:
        """Until it is done. The rest is applied once."""
        self.variables |= {"PROXY_PORT": "9000", "ALPACA_LIVE_OAUTH_TOKEN": "x"}
        needed = (
            "warn a restart is needed for PROXY_HOST, PROXY_PORT or PROXY_LISTEN,"
            " ALPACA_LIVE_OAUTH_TOKEN"
        )
        for changed in ("PROXY_LOG_LEVEL", "nothing has changed"):
            self.assertEqual(
                self.run_with(PROXY_LOG_LEVEL="warn"),
                [needed, f"info the settings were read again: {changed}"],
            )

    def test_new_warnings_are_logged_once(self) -> None:
        """Those of the start are in the log already."""
        [warning, _] = self.run_with(PROXY_TOKEN_="x")
        self.assertTrue(warning.startswith("warn PROXY_TOKEN_: unknown variable"), warning)
        self.assertEqual(len(self.run_with()), 1)

    def test_wrong_value_changes_nothing(self) -> None:
        """The reading has logged the problem."""
        self.is_readable = False
        self.assertEqual(self.run_with(PROXY_ALLOWED_HOSTS="new.example", PROXY_TOKENS=NEW), [])
        self.assertEqual(self.upgrade(Host="old.example").status, 101)
        self.assertEqual(self.levels, [])


class ReloadWebhooksTests(ReloadTestCase):
    """Webhooks are added, changed and removed."""

    def setUp(self) -> None:
        super().setUp()
        self.receiver = MemoryReceiver()
        webhooks = Webhooks(
            (),
            {"paper": self.paper},
            lambda _: self.receiver,
            "one",
            self.clock,
            lambda: 1.0,
        )
        webhooks.startService()
        self.addCleanup(webhooks.stopService)
        self.reload = Reload(self.read(), self.read_again, replace(self.targets, webhooks=webhooks))

    def fill(self) -> None:
        """Publish a fill of now."""
        now = format_time(round(self.clock.seconds() * 1_000_000))
        self.publish(self.paper, event(1, event="fill", at=now).payload)
        self.clock.advance(1)

    def test_new_webhook_sends_the_next_event(self) -> None:
        """The line names the group of variables, and no URL."""
        lines = self.run_with(PROXY_WEBHOOK_DESK_URL="https://receiver.example/hush")
        self.assertEqual(lines, ["info the settings were read again: PROXY_WEBHOOK_…"])
        self.fill()
        self.assertEqual(len(self.receiver.requests), 1)

    def test_same_settings_are_no_change(self) -> None:
        """A second SIGHUP says so."""
        self.run_with(PROXY_WEBHOOK_DESK_URL="https://receiver.example/hush")
        self.assertEqual(
            self.run_with(), ["info the settings were read again: nothing has changed"]
        )

    def test_wrong_webhook_changes_nothing(self) -> None:
        """The one that runs stays."""
        self.run_with(PROXY_WEBHOOK_DESK_URL="https://receiver.example/hush")
        self.is_readable = False
        self.run_with(PROXY_WEBHOOK_DESK_URL="x")
        self.fill()
        self.assertEqual(len(self.receiver.requests), 1)
