"""Every parser of bytes that come from outside, with any input: none raises what is not documented.

Parsers with a fuzz test beside their other tests are in ELSEWHERE.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH
from tests.support.properties import examples
from tests.support.proxy import ProxyTestCase, RawClient
from tests.system.attacks.sending import build_frame
from tradeproxy.cli import tail_output
from tradeproxy.client.base import read_http_rejection
from tradeproxy.client.resume import PositionLostError, ResumeState, Update
from tradeproxy.cluster.log_entries import EpochStart
from tradeproxy.config.env import Environment
from tradeproxy.hub.replication import StreamState
from tradeproxy.journal.bookmark import Bookmark
from tradeproxy.journal.metadata import Metadata
from tradeproxy.recovery.sse_parser import SseParser
from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.faults import parse_fault
from tradeproxy.simulator.orders import parse_order, parse_replacement
from tradeproxy.simulator.replay import parse_event_range
from tradeproxy.tradelog.csv_text import format_cell
from tradeproxy.upstream.backoff import MAX_RETRY_AFTER, parse_retry_after
from tradeproxy.upstream.http_date import parse_date
from tradeproxy.web.request_info import TrustedProxies
from tradeproxy.wire.origin_rules import OriginRules, RequestInfo

ELSEWHERE = {
    "frames of Alpaca": "upstream.test_whole_frames",
    "messages of clients and Alpaca": "wire.test_messages",
    "events": "wire.test_event_fields",
    "stored frames": "wire.test_frame",
    "cursors": "wire.test_cursor",
    "times": "wire.test_times",
    "queries": "query.test_stream",
    "filters": "query.test_filters",
    "paths": "web.test_routes",
    "REST paths": "web.test_rest_routes",
    "PROXY_LISTEN": "config.test_endpoints",
    "settings and .env": "config.test_settings_properties",
    "PROXY_REDIS_URL": "config.test_redis_settings",
    "HTTPS_PROXY and NO_PROXY": "config.test_connect_proxy",
    "answers of an HTTP proxy": "upstream.test_tunnel",
}
"""Modules of tests that have a test with Hypothesis."""

FUZZ = examples(50)

texts = st.text(st.characters(exclude_categories=()), max_size=40)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63])
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
deep = st.sampled_from([b"[" * 5000, b'{"a":' * 5000])


def shaped(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return documents that have some of these names, which a parser looks for."""
    return st.dictionaries(st.sampled_from(names) | texts, documents, max_size=len(names) + 1)


upstreams = st.fixed_dictionaries(
    {"streaming": st.booleans() | documents, "since": numbers | documents, "reason": texts}
)


class ListTests(SynchronousTestCase):
    """The list of the other fuzz tests."""

    def test_every_module_elsewhere_uses_hypothesis(self) -> None:
        """A test that is moved takes its row along."""
        for parser, module in ELSEWHERE.items():
            self.assertTrue(hasattr(import_module(f"tests.{module}"), "given"), parser)


class ConnectionTests(ProxyTestCase):
    """Bytes to the proxy's port. An error in the log fails these tests."""

    def send(self, *parts: bytes) -> RawClient:
        """Connect, send the parts, and drop the connection."""
        client = RawClient()
        self.wires.join(self.site.buildProtocol(None), client)
        for part in parts:
            assert client.transport is not None
            client.transport.write(part)
            self.wires.flush()
        client.transport.loseConnection()  # type: ignore[union-attr]
        self.wires.flush()
        return client

    @FUZZ
    @given(st.lists(st.binary(max_size=60), max_size=4))
    def test_any_bytes_as_request(self, parts: list[bytes]) -> None:
        """They are no request, or they get an answer."""
        self.send(*parts)

    @FUZZ
    @given(
        st.sampled_from([b"GET", b"HEAD", b"POST", b"\xff"]),
        st.sampled_from([b"/", b"/metrics", b"/trade-updates-paper", b"/paper/v2/events/trades"]),
        st.dictionaries(
            st.sampled_from(
                [
                    *(b"Host", b"Origin", b"Upgrade", b"Connection", b"Content-Length"),
                    *(b"Authorization", b"Last-Event-ID", b"Transfer-Encoding", b"Expect"),
                    *(b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Sec-WebSocket-Protocol"),
                ]
            ),
            st.binary(max_size=20)
            | st.sampled_from([b"localhost", b"websocket", b"Upgrade", b"13", b"chunked", b"-1"]),
        ),
    )
    def test_any_headers(self, method: bytes, path: bytes, headers: dict[bytes, bytes]) -> None:
        """Every combination gets an answer, or is no HTTP."""
        lines = [name + b": " + value for name, value in headers.items()]
        self.send(b"\r\n".join([method + b" " + path + b" HTTP/1.1", *lines, b"", b""]))

    @FUZZ
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 15),
                st.binary(max_size=20) | st.just(AUTH),
                st.booleans(),
                st.booleans(),
            ).map(lambda frame: build_frame(frame[0], frame[1], fin=frame[2], masked=frame[3]))
            | st.binary(max_size=10),
            max_size=6,
        )
    )
    def test_any_frames_of_a_client(self, frames: list[bytes]) -> None:
        """Wrong opcodes, fragments, masks and lengths close the connection at most."""
        client = self.send(
            b"GET /trade-updates-paper HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            *frames,
        )
        self.assertEqual(client.status, 101)


class TextTests(SynchronousTestCase):
    """Headers, and what Alpaca and proxies answer."""

    @FUZZ
    @given(texts | st.text("0123456789-+:., GMTJanFri", max_size=40), st.floats(0, 4e9))
    def test_any_date_and_retry_after(self, text: str, now: float) -> None:
        """They are a time within bounds, or none."""
        seconds = parse_retry_after(text, now)
        self.assertTrue(seconds is None or 0 <= seconds <= MAX_RETRY_AFTER)
        parse_date(text)

    @FUZZ
    @given(*[st.none() | texts | st.text("localhost:[]./1", max_size=20)] * 3, st.booleans())
    def test_any_host_and_origin(
        self, host: str | None, origin: str | None, site: str | None, tls: bool
    ) -> None:
        """The request is admitted or rejected."""
        OriginRules().find_problem(RequestInfo(host, origin, tls, fetch_site=site))

    @FUZZ
    @given(texts | st.text("10.:,[]f% ", max_size=40))
    def test_any_forwarded_client(self, hops: str) -> None:
        """It is an address, which can be shown, or none."""
        client = TrustedProxies(("10.0.0.0/8", "::/1")).find_client(hops)
        if client is not None:
            self.assertNotIn("%", str(ip_address(client)))

    @FUZZ
    @given(st.lists(st.binary(max_size=30) | st.sampled_from([b"data:", b"\n", b"\r\n"])))
    def test_any_bytes_as_server_sent_events(self, chunks: list[bytes]) -> None:
        """The items do not depend on how the bytes were cut."""
        parser, whole = SseParser(), SseParser()
        items = [item for chunk in chunks for item in parser.feed(chunk)]
        self.assertEqual([*items, *parser.end()], [*whole.feed(b"".join(chunks)), *whole.end()])


class FileTests(SynchronousTestCase):
    """Files that another program may have written."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    @FUZZ
    @given(st.binary(max_size=60))
    def test_any_bytes_in_env_and_secret_files(self, content: bytes) -> None:
        """They have a value, or a problem that fits on a line."""
        for name in (".env", "secret"):
            (self.directory / name).write_bytes(content)
            (self.directory / name).chmod(0o600)
        env = Environment.read({"X_FILE": "secret"}, self.directory, None)
        env.read_secret("X")
        for problem in env.findings.problems:
            self.assertTrue(problem.isprintable(), problem)

    @FUZZ
    @given(st.binary(max_size=60) | deep | documents.map(lambda each: json.dumps(each).encode()))
    def test_any_bytes_as_bookmark(self, content: bytes) -> None:
        """A damaged bookmark is an empty state."""
        path = self.directory / "paper.bookmark"
        path.write_bytes(content)
        clock: Any = Clock()
        state = Bookmark(path, clock, dict, full_sync=False).read()
        self.assertIsInstance(state, dict)

    @FUZZ
    @given(
        st.dictionaries(
            st.sampled_from(["epoch", "base_url", "trimmed", "begins", "horizon", "latest"])
            | texts,
            texts | st.integers().map(str),
        )
    )
    def test_any_metadata(self, saved: dict[str, str]) -> None:
        """Metadata of a journal are read, or the journal counts as damaged."""
        with contextlib.suppress(ValueError, KeyError):
            Metadata("http://127.0.0.1").load(saved, None)


class DocumentTests(SynchronousTestCase):
    """JSON from Redis, from users of the simulator and from a proxy."""

    @FUZZ
    @given(
        st.binary(max_size=60)
        | deep
        | documents.map(lambda each: json.dumps(each).encode())
        | st.tuples(shaped("epoch", "after", "facts", "gaps"), upstreams).map(
            lambda both: json.dumps(both[0] | {"upstream": both[1]}).encode()
        )
    )
    def test_any_state_in_redis(self, content: bytes) -> None:
        """It is read, or an error says that another program wrote it."""
        for parse in (EpochStart.parse, lambda text: StreamState.parse(text.decode())):
            read: Callable[[bytes], object] = parse
            with contextlib.suppress(ValueError):
                read(content)

    @FUZZ
    @given(documents | shaped("kind", "count", "seconds", "qty", "symbol", "side", "type", "since"))
    def test_any_request_to_the_simulator(self, document: Any) -> None:
        """It is carried out, or has Alpaca's error."""
        for parse in (parse_fault, parse_order, parse_replacement):
            with contextlib.suppress(ApiError):
                parse(document)
        if isinstance(document, dict):
            with contextlib.suppress(ApiError):
                parse_event_range({str(name): str(value) for name, value in document.items()})

    @FUZZ
    @given(
        st.binary(max_size=60)
        | deep
        | st.tuples(st.sampled_from(["trade_updates", "proxy_status"]), documents, documents).map(
            lambda parts: json.dumps(
                {"stream": parts[0], "data": parts[1], "cursor": parts[2]}
            ).encode()
        )
    )
    def test_any_message_to_a_client(self, message: bytes) -> None:
        """It is an update, a status, a loss, or nothing; the table of `tail` shows any update."""
        item = ResumeState({}).receive(message)
        self.assertIsInstance(item, Update | dict | PositionLostError | None)
        read_http_rejection(503, message)
        if isinstance(item, Update):
            tail_output.Table(io.StringIO(), {}).show(item)

    @FUZZ
    @given(texts | st.text("=+-@\t\r\n'\";,0", max_size=10))
    def test_any_text_in_csv(self, text: str) -> None:
        """It is one field, it can be encoded, and it begins as no formula."""
        cell = format_cell(text)
        cell.encode()
        [field] = next(csv.reader(io.StringIO(cell, newline=""), strict=True), [""])
        self.assertFalse(field[:1] in tuple("=+-@\t\r") and not field[1:].isdecimal(), field)
