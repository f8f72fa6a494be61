"""No key of the proxy or of a client appears in a log, an error or the process list."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from tests.support.disclosure import (
    CLOSED_PORT,
    KEY,
    MARK,
    PASSWORD,
    SECRET,
    THEIRS,
    TOKEN,
    TWISTD,
    DisclosureTestCase,
    accounts_at,
    disclosures,
    request,
)
from tests.support.frames import AUTHENTICATED
from tests.support.impostors import ENDS, HANDSHAKES, impostor, parrot
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret

UNGUARDED = """
from tradeproxy.upstream.client import UpstreamProtocol
UpstreamProtocol.log.set_log_level("trace")
"""
"""Turns on Autobahn's trace log, which the proxy keeps off."""

TWIST = "from twisted.application.twist._twist import Twist; Twist.main()"

BASIC = b64encode(f"{THEIRS}:{THEIRS}".encode()).decode()
# Without User-Agent: it names the program, and is in the lines about clients.
HEADERS = (
    f"Authorization: Bearer {THEIRS}",
    f"Authorization: Basic {BASIC}",
    f"Authorization: {THEIRS}",
    f"APCA-API-KEY-ID: {THEIRS}\r\nAPCA-API-SECRET-KEY: {THEIRS}",
    f"Cookie: token={THEIRS}",
    f"Origin: http://{THEIRS}",
    f"Host: {THEIRS}",
    f"Sec-WebSocket-Protocol: {THEIRS}, {PASSWORD}",
    f"Sec-WebSocket-Extensions: {THEIRS}; {THEIRS}={THEIRS}",
    f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={THEIRS}",
    f"Sec-WebSocket-Key: {THEIRS}",
    f"Sec-WebSocket-Version: {THEIRS}",
    f"Content-Length: {THEIRS}",
    f"Transfer-Encoding: {THEIRS}",
    f"{THEIRS}",
    f"{THEIRS} : {THEIRS}",
    f"X: {THEIRS}\xff\x00",
)
STARTS = (
    f"GET /trade-updates-paper?token={THEIRS} HTTP/1.1",
    f"GET /trade-updates-{THEIRS} HTTP/1.1",
    f"GET /{THEIRS} HTTP/1.1",
    f"GET /readyz?token={THEIRS} HTTP/1.1",
    f"GET http://user:{THEIRS}@localhost/ HTTP/1.1",
    f"GET / HTTP/{THEIRS}",
    f"GET {THEIRS}",
    f"{THEIRS} / HTTP/1.1",
    f"{THEIRS}",
)
REQUESTS = (
    *map(request, HEADERS),
    *(request(start=start, upgrade=upgrade) for upgrade in (True, False) for start in STARTS),
    request(
        f"Content-Length: {len(THEIRS)}", "", THEIRS, start="POST /readyz HTTP/1.1", upgrade=False
    ),
    b"\x16\x03\x01" + THEIRS.encode() + b"\r\n\r\n",
)

MESSAGES: tuple[tuple[int, bytes], ...] = (
    (1, json.dumps({"action": "auth", "key": THEIRS, "secret": THEIRS}).encode()),
    (
        1,
        json.dumps(
            {"action": "authenticate", "data": {"key_id": THEIRS, "secret_key": THEIRS}}
        ).encode(),
    ),
    (2, json.dumps({"action": "authenticate", "data": {"oauth_token": THEIRS}}).encode()),
    (1, f'{{"action":"auth","key":"{THEIRS}"'.encode()),
    (2, THEIRS.encode() + b"\xff"),
    (1, THEIRS.encode() + b"\xff"),
    (1, THEIRS.encode() * 10_000),
    (8, b"\x0f\xa0" + THEIRS.encode()),
    (8, b"\x13\x88" + THEIRS.encode()),
    (3, THEIRS.encode()),
)
"""Frames that close the connection of an unauthenticated client: opcode and payload."""


class DisclosureTests(SynchronousTestCase):
    """The search for secrets itself."""

    def test_disclosures_finds_secret_in_any_encoding(self) -> None:
        """As text, repr, hexadecimal or base64, at any offset."""
        for prefix in ("", "a", "ab", "abc"):
            text = f"{prefix}{KEY}:x"
            data = text.encode()
            for encoded in (
                text,
                repr(data),
                data.hex(),
                data.hex().upper(),
                b64encode(data).decode(),
            ):
                self.assertEqual(disclosures(f"one\n[{encoded}]\ntwo"), [f"[{encoded}]"])
        self.assertEqual(disclosures("ALPACA_API_KEY: login refused"), [])


class SecretLogTests(DisclosureTestCase):
    """The log, with Autobahn logging every octet."""

    async def test_credentials_are_not_logged(self) -> None:
        """In text and JSON logs: neither the clients' credentials nor the proxy's own."""
        for code, options in (
            (TWISTD, ("-n",)),
            (TWISTD, ("-n", "--logger=tradeproxy.logs.json_observer")),
            (TWIST, ("--log-level=debug", "--log-format=json")),
        ):
            paper = await self.simulate(credentials=KeyPair(Secret(KEY), Secret(SECRET)))
            paper_port = self.alpaca_port
            live = await self.simulate(credentials=OAuthToken(Secret(TOKEN)))
            command = self.start(
                *options,
                code=code,
                ALPACA_API_KEY=KEY,
                ALPACA_SECRET_KEY=SECRET,
                ALPACA_URL=f"http://127.0.0.1:{paper_port}",
                ALPACA_LIVE_OAUTH_TOKEN=TOKEN,
                ALPACA_LIVE_URL=f"http://127.0.0.1:{self.alpaca_port}",
                PROXY_LOG_LEVEL="debug",
            )
            await gatherResults([paper.when_listening(), live.when_listening()])
            await gatherResults([Deferred.fromCoroutine(self.visit(data)) for data in REQUESTS])
            await gatherResults(
                [Deferred.fromCoroutine(self.send_invalid(*frame)) for frame in MESSAGES]
            )
            auth = json.dumps({"action": "auth", "key": PASSWORD, "secret": THEIRS})
            client = await self.connect("/paper", auth.encode())
            await client.has(1)
            self.assertEqual(client.messages, [AUTHENTICATED])
            await self.assert_silent(command, "upstream is streaming")

    async def test_credentials_echoed_by_alpaca_are_not_logged(self) -> None:
        """In errors, rejections, invalid frames and close reasons."""
        parrots = {
            f"PARROT{number}": await self.serve(parrot(end)) for number, end in enumerate(ENDS)
        }
        await self.assert_outage(parrots)

    async def test_credentials_echoed_in_handshake_are_not_logged(self) -> None:
        """Alpaca may know the key from an earlier connection."""
        await self.assert_outage(
            {
                f"IMPOSTOR{number}": await self.serve(impostor(text))
                for number, text in enumerate(HANDSHAKES)
            }
        )

    async def test_rejected_login_names_variable_only(self) -> None:
        """So do HTTP 429 and a host without a server."""
        ports = {
            "REFUSED": await self.serve_fault(FaultKind.REFUSE),
            "BUSY": await self.serve_fault(FaultKind.THROTTLE),
            "ABSENT": CLOSED_PORT,
        }
        await self.assert_outage(
            ports, "ALPACA_REFUSED_API_KEY is not accepted", "HTTP 429", "cannot connect"
        )

    async def test_trace_log_would_show_credentials(self) -> None:
        """Without the guard the credentials appear, so these tests can fail."""
        await self.simulate()
        command = self.start("-n", code=f"{UNGUARDED}{TWISTD}", **accounts_at(A=self.alpaca_port))
        await command.says("upstream is streaming")
        await command.stop()
        self.assertNotEqual(disclosures(command.output), [])

    async def send_invalid(self, opcode: int, payload: bytes) -> None:
        """Send a frame and wait until the proxy has closed the connection."""
        client = await self.connect()
        client.sendFrame(opcode, payload)
        await client.gone()

    async def assert_outage(self, ports: dict[str, int], *lines: str) -> None:
        """Assert that an account at each port is logged as down, with these lines."""
        command = self.start("-n", **accounts_at(**ports))
        down = [f"{name.lower()}: upstream is down" for name in ports]
        await gatherResults([command.says(line) for line in down])
        await self.assert_silent(command, *down, *lines)


class SecretSettingTests(DisclosureTestCase):
    """Problems with settings are reported without their values."""

    async def test_problems_name_variables_only(self) -> None:
        """Every mistake with a secret is reported by its variable or line number."""
        self.directory = self.make_directory()
        Path(self.directory, ".env").write_text(
            f"{KEY}\nALPACA_API_KEY: {KEY}\nALPACA_X_API_KEY='{KEY}\n"
        )
        Path(self.directory, "binary").write_bytes(KEY.encode() + b"\xff")
        Path(self.directory, "spaces").write_text(f"{KEY} {KEY}")
        pair = {"ALPACA_{}_API_KEY": KEY, "ALPACA_{}_SECRET_KEY": SECRET}
        mistakes: dict[str, dict[str, str]] = {
            "NO_SECRET": {"ALPACA_{}_API_KEY": KEY},
            "NO_KEY": {"ALPACA_{}_SECRET_KEY": SECRET},
            "SPACE": pair | {"ALPACA_{}_API_KEY": f"{KEY} {KEY}"},
            "FOREIGN": pair | {"ALPACA_{}_SECRET_KEY": f"{SECRET}\u00e9"},
            "THREE": pair | {"ALPACA_{}_OAUTH_TOKEN": TOKEN},
            "TWICE": pair | {"ALPACA_{}_API_KEY_FILE": KEY},
            "NO_FILE": {"ALPACA_{}_OAUTH_TOKEN_FILE": TOKEN},
            "LONG_FILE": {"ALPACA_{}_OAUTH_TOKEN_FILE": TOKEN * 1000},
            "BINARY": {"ALPACA_{}_OAUTH_TOKEN_FILE": "binary"},
            "SPACES": {"ALPACA_{}_OAUTH_TOKEN_FILE": "spaces"},
            "USER": pair | {"ALPACA_{}_URL": f"https://user:{SECRET}@alpaca.example"},
            "QUERY": pair | {"ALPACA_{}_URL": f"https://alpaca.example/?key={KEY}"},
            "SWAPPED": pair | {"ALPACA_{}_URL": KEY},
            "HOST": pair | {"ALPACA_{}_URL": f"https://{KEY}!/"},
            "PORT": pair | {"ALPACA_{}_URL": f"https://alpaca.example:{KEY}/"},
            "IN_THE_CLEAR": pair | {"ALPACA_{}_URL": f"http://alpaca.example/{KEY}"},
            "ONE": pair,
            "ONE_AGAIN": pair,
        }
        environment = {
            variable.format(name): value
            for name, variables in mistakes.items()
            for variable, value in variables.items()
        }
        environment |= {
            "PROXY_TOKENS": f"{PASSWORD} {PASSWORD}",
            "PROXY_ALLOWED_ORIGINS": f"https://user:{PASSWORD}@page.example",
        }
        commands = [
            self.command(*arguments, **environment)
            for arguments in (
                ("twistd", "-n", "tradeproxy"),
                ("twist", "tradeproxy"),
                ("python", "-m", "tradeproxy", "check"),
            )
        ]
        for command in commands:
            self.assertEqual(await command.ended, 1, command.output)
            self.assert_said(
                command,
                *(mistakes.keys() - {"ONE"}),
                ".env: line 1",
                "PROXY_TOKENS",
                "PROXY_ALLOWED_ORIGINS",
            )

    async def test_warnings_name_variables_only(self) -> None:
        """Warnings follow the same rule."""
        command = self.start(
            "-n", PROXY_TOKENS=MARK, PROXY_TOKNS=PASSWORD, **accounts_at(A=CLOSED_PORT)
        )
        await command.says("listening on")
        await self.assert_silent(
            command, "PROXY_TOKNS: unknown variable", "PROXY_TOKENS: a token of fewer"
        )
