"""No key, of the proxy or of a client, shows in a log at any level, an error, `check` or the process list."""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTHENTICATED
from tests.support.processes import PATIENCE, Command, free_port
from tests.support.proxy import RawClient
from tests.support.sockets import SocketTestCase
from tradeproxy.secret import KeyPair, OAuthToken, Secret
from tradeproxy.simulator.faults import Fault, FaultKind

MARK = "hushhush"
"""What every secret holds, and nothing else."""

KEY, SECRET, TOKEN = f"{MARK}-our-key", f"{MARK}-our-secret", f"{MARK}-our-oauth-token"
PASSWORD = f"{MARK}-one-of-proxy-tokens"
THEIRS = f"{MARK}-what-a-client-sends"

DEBUG = """
import txaio
txaio.use_twisted()
txaio.set_global_log_level("trace")
txaio.make_logger().debug("Autobahn debugs")
from autobahn.websocket.protocol import WebSocketProtocol
WebSocketProtocol.logFrames = WebSocketProtocol.logOctets = True
"""
"""Lets Autobahn log all that it can: every octet, frame and header."""

UNGUARDED = """
from tradeproxy.upstream.client import UpstreamProtocol
UpstreamProtocol.log.set_log_level("trace")
"""
"""Undoes what keeps Autobahn from it."""

TWISTD = "from twisted.scripts.twistd import run; run()"
CHECK = "from tradeproxy.__main__ import main; main()"
TWIST = "from twisted.application.twist._twist import Twist; Twist.main()"


def disclosures(text: str) -> list[str]:
    """Return the lines in which a secret shows, as it is, in hexadecimal or in base64."""
    codings = {MARK, MARK.encode().hex()} | {_base64_anywhere(shift) for shift in range(3)}
    return [line for line in text.splitlines() if any(c in line or c in line.lower() for c in codings)]


def _base64_anywhere(shift: int) -> str:
    # The characters that do not depend on what stands before and after.
    coded = b64encode(b"\0" * shift + MARK.encode()).decode()
    return coded[(0, 2, 3)[shift] : (shift + len(MARK)) * 8 // 6]


class DisclosureTests(SynchronousTestCase):
    """The search itself."""

    def test_finds_a_secret_in_any_coding(self) -> None:
        """Whatever surrounds it, and whichever way it is written."""
        for before in ("", "a", "ab", "abc"):
            text = f"{before}{KEY}:x"
            data = text.encode()
            for shown in (text, repr(data), data.hex(), data.hex().upper(), b64encode(data).decode()):
                self.assertEqual(disclosures(f"one\n[{shown}]\ntwo"), [f"[{shown}]"])
        self.assertEqual(disclosures("ALPACA_API_KEY: login refused"), [])


class Parrot(WebSocketServerProtocol):
    """An Alpaca that repeats what it was told wherever there is room for it, and ends as it is made to."""

    def __init__(self, end: Callable[[Parrot, str], None]) -> None:
        super().__init__()
        self._end = end

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        text = payload.decode()
        for document in (
            {"action": "error", "data": {"error_message": text}},
            {"stream": text, "data": {}},
            {"stream": "trade_updates", "data": text},
            {"stream": "authorization", "data": {text: text}},
        ):
            self.sendMessage(json.dumps(document).encode())
        self.sendMessage(payload + b"...")
        self._end(self, text[:120])


def say(document: dict[str, Any]) -> Callable[[Parrot, str], None]:
    """Return an end by a message, in which "{}" is what was said."""
    message = json.dumps(document)
    return lambda parrot, text: parrot.sendMessage(message.replace("{}", json.dumps(text)[1:-1]).encode())


ENDS: tuple[Callable[[Parrot, str], None], ...] = (
    say({"stream": "authorization", "data": {"status": "unauthorized", "message": "{}"}}),
    say({"stream": "authorization", "data": {"status": "unauthorized", "message": "connection limit {}"}}),
    say({"action": "error", "data": {"error_message": "connection limit {}"}}),
    lambda parrot, text: parrot.sendClose(4000, text),
    lambda parrot, text: parrot.sendFrame(8, b"\x13\x88" + text.encode()),
    lambda parrot, text: parrot.sendFrame(8, b"\x0f\xa0" + text.encode() + b"\xff"),
    lambda parrot, text: parrot.sendFrame(1, text.encode() + b"\xff"),
    lambda parrot, text: parrot.sendFrame(3, text.encode()),
    lambda parrot, text: parrot.sendFrame(1, text.encode(), rsv=7),
    lambda parrot, text: parrot.dropConnection(abort=True),
)

UPGRADED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
HANDSHAKES = (
    f"HTTP/1.1 403 {KEY}\r\n\r\n",
    f"HTTP/1.1 {KEY}\r\n\r\n",
    f"HTTP/{KEY} 200 OK\r\n\r\n",
    f"{KEY}\r\n\r\n",
    f"{KEY} {SECRET} OK\r\n\r\n",
    f"HTTP/1.1 403 Forbidden\r\n{KEY}\r\n\r\n",
    f"HTTP/1.1 403 \xff\r\nX: {KEY}\r\n\r\n",
    f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {KEY}\r\n\r\n",
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {KEY}\r\nConnection: Upgrade\r\n\r\n",
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: {KEY}\r\n\r\n",
    f"{UPGRADED}Sec-WebSocket-Accept: {KEY}\r\n\r\n",
    f"{UPGRADED}Sec-WebSocket-Accept: {{accept}}\r\nSec-WebSocket-Extensions: {KEY}\r\n\r\n",
    f"{UPGRADED}Sec-WebSocket-Accept: {{accept}}\r\nSec-WebSocket-Protocol: {KEY}\r\n\r\n",
)
"""What an Alpaca that knows the key may answer to a handshake."""


class Impostor(Protocol):
    """Answers an HTTP request with what it was given."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self._request = b""

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if b"\r\n\r\n" in self._request:
            assert self.transport is not None
            self.transport.write(self._answer.replace("{accept}", _accept(self._request)).encode("latin-1"))
            self.transport.loseConnection()


def _accept(request: bytes) -> str:
    key = request.lower().index(b"sec-websocket-key:")
    value = request[key:].split(b"\r\n")[0].partition(b":")[2].strip()
    return b64encode(sha1(value + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


class Visitor(RawClient):
    """Sends bytes; `answered` fires with a whole HTTP response, or with the end of the connection."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self._request = request
        self.answered: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: ([0-9]+)", head.lower())
        if end and len(body) >= int(length[1] if length else 0) and not self.answered.called:
            self.answered.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        if not self.answered.called:
            self.answered.callback(None)
        self.ended.callback(None)


def request(*lines: str, start: str = "GET /trade-updates-paper HTTP/1.1", upgrade: bool = True) -> bytes:
    """Write a request, by default for a WebSocket, to which `lines` are added."""
    head = [start, "Host: localhost"]
    if upgrade:
        head += ["Upgrade: websocket", "Connection: Upgrade"]
        head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    return "\r\n".join([*head, *lines, "", ""]).encode("latin-1")


BASIC = b64encode(f"{THEIRS}:{THEIRS}".encode()).decode()
REQUESTS = (
    *(
        request(header)
        for header in (
            f"Authorization: Bearer {THEIRS}",
            f"Authorization: Basic {BASIC}",
            f"Authorization: {THEIRS}",
            f"APCA-API-KEY-ID: {THEIRS}\r\nAPCA-API-SECRET-KEY: {THEIRS}",
            f"Cookie: token={THEIRS}",
            f"Origin: http://{THEIRS}",
            f"Host: {THEIRS}",
            f"User-Agent: {THEIRS}",
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
    ),
    *(
        request(start=start, upgrade=upgrade)
        for upgrade in (True, False)
        for start in (
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
    ),
    request(f"Content-Length: {len(THEIRS)}", "", THEIRS, start="POST /readyz HTTP/1.1", upgrade=False),
    b"\x16\x03\x01" + THEIRS.encode() + b"\r\n\r\n",
)

MESSAGES: tuple[tuple[int, bytes], ...] = (
    (1, json.dumps({"action": "auth", "key": THEIRS, "secret": THEIRS}).encode()),
    (1, json.dumps({"action": "authenticate", "data": {"key_id": THEIRS, "secret_key": THEIRS}}).encode()),
    (2, json.dumps({"action": "authenticate", "data": {"oauth_token": THEIRS}}).encode()),
    (1, f'{{"action":"auth","key":"{THEIRS}"'.encode()),
    (2, THEIRS.encode() + b"\xff"),
    (1, THEIRS.encode() + b"\xff"),
    (1, THEIRS.encode() * 10_000),
    (8, b"\x0f\xa0" + THEIRS.encode()),
    (8, b"\x13\x88" + THEIRS.encode()),
    (3, THEIRS.encode()),
)
"""Frames after which a client is not let in: opcode and payload."""


class SecretsTestCase(SocketTestCase):
    """A proxy with as much logging as there can be."""

    def start(self, *options: str, runner: str = TWISTD, further: str = "", **environment: str) -> Command:
        """Start the proxy on `self.port`, which is free."""
        self.port = free_port()
        own = {"PROXY_PORT": str(self.port), "PROXY_HOST": "127.0.0.1", "PROXY_TOKENS": PASSWORD}
        code = f"{DEBUG}{further}{runner}"
        return self.command(sys.executable, "-c", code, *options, "tradeproxy", **(own | environment))

    async def parrot(self, end: Callable[[Parrot, str], None]) -> int:
        factory: Any = WebSocketServerFactory(reactor=reactor)
        factory.noisy = False
        factory.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=0)
        factory.protocol = lambda: Parrot(end)
        return await self.listen(factory)

    async def impostor(self, answer: str) -> int:
        return await self.listen(Factory.forProtocol(lambda: Impostor(answer)))

    async def listen(self, factory: Any) -> int:
        port: Any = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def alpaca_port_of(self, fault: FaultKind) -> int:
        alpaca = await self.simulate()
        alpaca.inject(Fault(fault, seconds=PATIENCE))
        port: int = self.alpaca_port
        return port

    async def visit(self, data: bytes) -> Visitor:
        """Send bytes to the proxy, and return once it has answered or closed."""
        visitor = Visitor(data)
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        await endpoint.connect(Factory.forProtocol(lambda: visitor))
        await visitor.answered
        assert visitor.transport is not None
        visitor.transport.loseConnection()
        await visitor.ended
        return visitor

    async def offend(self, opcode: int, payload: bytes) -> None:
        """Send a frame, and return once the proxy has closed the connection."""
        client = await self.connect()
        client.sendFrame(opcode, payload)
        await client.gone()

    async def assert_silent(self, command: Command, *lines: str) -> None:
        """Stop it, and assert that it said these lines, and no secret; nor /readyz, nor the process list."""
        readiness = await self.visit(request(start="GET /readyz HTTP/1.1", upgrade=False))
        self.assertIn('"accounts"', readiness.body)
        self.assertEqual(disclosures(readiness.received.decode()), [])
        self.assertEqual(disclosures(Path(f"/proc/{command.pid}/cmdline").read_text()), [])
        await command.stop()
        for line in ("Autobahn debugs", *lines):
            self.assertIn(line, command.output)
        self.assertEqual(disclosures(command.output), [])
        self.assertNotIn("Traceback", command.output)


class LogTests(SecretsTestCase):
    """The log, with Autobahn told to show every octet."""

    async def test_clients_credentials_and_ours(self) -> None:
        """Text or JSON: neither what clients send, well-formed or not, nor what we send to Alpaca."""
        for options, runner in (
            (("-n",), TWISTD),
            (("--log-level=debug", "--log-format=json"), TWIST),
        ):
            pair, token = KeyPair(Secret(KEY), Secret(SECRET)), OAuthToken(Secret(TOKEN))
            alpacas, environment = (
                [],
                {"ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET, "ALPACA_LIVE_OAUTH_TOKEN": TOKEN},
            )
            for variable, credentials in (("ALPACA_URL", pair), ("ALPACA_LIVE_URL", token)):
                alpacas.append(await self.simulate(credentials=credentials))
                environment[variable] = f"http://127.0.0.1:{self.alpaca_port}"
            command = self.start(*options, runner=runner, **environment)
            await gatherResults([alpaca.when_listening() for alpaca in alpacas])
            await gatherResults([Deferred.fromCoroutine(self.visit(data)) for data in REQUESTS])
            await gatherResults([Deferred.fromCoroutine(self.offend(*frame)) for frame in MESSAGES])
            client = await self.connect(
                "/paper", json.dumps({"action": "auth", "key": PASSWORD, "secret": THEIRS}).encode()
            )
            await client.has(1)
            self.assertEqual(client.messages, [AUTHENTICATED])
            await self.assert_silent(command, "upstream is streaming")

    async def test_an_alpaca_that_repeats_what_it_is_told(self) -> None:
        """In errors, refusals, frames that are none, and close reasons: not one word of it goes further."""
        await self.assert_outage(
            {f"PARROT{number}": await self.parrot(end) for number, end in enumerate(ENDS)}
        )

    async def test_an_alpaca_that_repeats_it_in_its_handshake(self) -> None:
        """It knows the key from a connection before; what is wrong with its answer is told without it."""
        await self.assert_outage(
            {f"IMPOSTOR{number}": await self.impostor(text) for number, text in enumerate(HANDSHAKES)}
        )

    async def test_an_alpaca_that_does_not_let_us_in(self) -> None:
        """Whose key is refused is told by the name of its variable; 429 and no server are told too."""
        accounts = {
            "REFUSED": await self.alpaca_port_of(FaultKind.REFUSE),
            "BUSY": await self.alpaca_port_of(FaultKind.THROTTLE),
            "NOBODY": free_port(),
        }
        await self.assert_outage(
            accounts, "ALPACA_REFUSED_API_KEY is not accepted", "HTTP 429", "cannot connect"
        )

    async def test_would_show_them_unguarded(self) -> None:
        """What these tests look for is there to be found, were it not kept out of the log."""
        alpaca = await self.simulate()
        command = self.start(
            "-n",
            further=UNGUARDED,
            ALPACA_API_KEY=KEY,
            ALPACA_SECRET_KEY=SECRET,
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
        )
        await alpaca.when_listening()
        await command.stop()
        self.assertNotEqual(disclosures(command.output), [])

    async def assert_outage(self, accounts: dict[str, int], *lines: str) -> None:
        """Assert that an account at each of these ports is told to be down, and how."""
        environment: dict[str, str] = {}
        for name, port in accounts.items():
            environment |= {f"ALPACA_{name}_API_KEY": KEY, f"ALPACA_{name}_SECRET_KEY": SECRET}
            environment[f"ALPACA_{name}_URL"] = f"http://127.0.0.1:{port}"
        command = self.start("-n", **environment)
        down = [f"{name.lower()}: upstream is down" for name in accounts]
        await gatherResults([command.says(line) for line in down])
        await self.assert_silent(command, *down, *lines)


class SettingsTests(SecretsTestCase):
    """What is wrong with the settings is told without what they hold."""

    async def test_bad_ones(self) -> None:
        """Each mistake that one can make with a secret is told by its variable or its line, and no more."""
        self.directory = self.make_directory()
        Path(self.directory, ".env").write_text(f"{KEY}\nALPACA_API_KEY: {KEY}\nALPACA_X_API_KEY='{KEY}\n")
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
            for name in (*mistakes.keys() - {"ONE"}, ".env: line 1", "PROXY_TOKENS", "PROXY_ALLOWED_ORIGINS"):
                self.assertIn(name, command.output)
            self.assertNotIn("Traceback", command.output)
            self.assertEqual(disclosures(command.output), [])

    async def test_odd_ones(self) -> None:
        """Warnings hold no more than problems do."""
        command = self.start(
            "-n",
            PROXY_TOKENS=MARK,
            ALPACA_API_KEY=KEY,
            ALPACA_SECRET_KEY=SECRET,
            PROXY_TOKEN=PASSWORD,
        )
        await command.says("listening on")
        await self.assert_silent(
            command, "PROXY_TOKEN: there is no such variable", "PROXY_TOKENS: a token of fewer"
        )


class CheckTests(SecretsTestCase):
    """`tradeproxy check`: a line for each account, and whether all is well as the exit status."""

    async def check(self, status: int, **ports: int) -> list[str]:
        """Check accounts by the ports of their Alpacas, and return its lines."""
        environment = {"PROXY_PORT": str(free_port()), "PROXY_TOKENS": PASSWORD}
        for name, port in ports.items():
            environment |= {f"ALPACA_{name}_API_KEY": KEY, f"ALPACA_{name}_SECRET_KEY": SECRET}
            environment[f"ALPACA_{name}_URL"] = f"http://127.0.0.1:{port}"
        command = self.command(sys.executable, "-c", f"{DEBUG}{CHECK}", "check", **environment)
        self.assertEqual(await command.ended, status, command.output)
        self.assertEqual(disclosures(command.output), [])
        self.assertNotIn("Traceback", command.output)
        return command.output.splitlines()

    async def test_all_is_well(self) -> None:
        """Each account's login is tried, and left in an orderly way."""
        alpacas, ports = [], []
        for _ in range(2):
            alpacas.append(await self.simulate(credentials=KeyPair(Secret(KEY), Secret(SECRET))))
            ports.append(self.alpaca_port)
        lines = await self.check(0, A=ports[0], B=ports[1])
        self.assertIn("tokens: 1", lines)
        self.assertEqual(
            lines[-2:],
            [f"{n}: ws://127.0.0.1:{port}/stream: logged in" for n, port in zip("ab", ports, strict=True)],
        )
        for alpaca in alpacas:
            await alpaca.when_gone()
            self.assertEqual(alpaca.last_close, (1000, None))

    async def test_says_what_is_wrong(self) -> None:
        """A refused key by its variable, another connection, an address where nobody is, one that babbles."""
        lines = await self.check(
            1,
            REFUSED=await self.alpaca_port_of(FaultKind.REFUSE),
            BUSY=await self.alpaca_port_of(FaultKind.THROTTLE),
            NOBODY=free_port(),
            PARROT=await self.parrot(ENDS[0]),
            IMPOSTOR=await self.impostor(HANDSHAKES[0]),
        )
        said = {line.partition(":")[0]: line for line in lines}
        self.assertIn("login refused: ALPACA_REFUSED_API_KEY is not accepted", said["refused"])
        self.assertIn("HTTP 429 at the handshake: another connection", said["busy"])
        self.assertIn("cannot connect", said["nobody"])
        self.assertIn("login refused", said["parrot"])
        self.assertIn("HTTP 403", said["impostor"])
