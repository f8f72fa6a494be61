"""What a request costs while it is held: for a whole stream, or until a late answer."""

from __future__ import annotations

import tracemalloc

from tests.support.proxy import ProxyTestCase
from tests.support.sse import PATH
from tradeproxy.downstream.admission import MAX_WRONG

COUNT = 20
MANY = range(1200)
LARGE_HEADS = {
    "cookies": "GET {path} HTTP/1.1\r\nCookie: " + ";".join(f"{n:x}=" for n in MANY) + "\r\n",
    "parameters": "GET {path}?" + "&".join(f"{n:x}=" for n in MANY) + " HTTP/1.1\r\n",
    "headers": "GET {path} HTTP/1.1\r\n" + "".join(f"X-{n:x}: \r\n" for n in MANY[:450]),
}
TOKEN = "a-token-of-some-length"


class RequestMemoryTests(ProxyTestCase):
    """A head has at most 16 KiB, but Twisted's dicts of its parts took up to 250 KB a request."""

    tokens = (TOKEN,)

    def measure(self, head: str, path: str, token: str) -> float:
        """Return the bytes that each of COUNT requests with this head holds."""
        lines = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        data = (head.replace("{path}", path) + lines).encode()
        self.write(data)  # what all requests share
        before = tracemalloc.get_traced_memory()[0]
        clients = [self.write(data) for _ in range(COUNT)]
        grown = tracemalloc.get_traced_memory()[0] - before
        self.assertEqual(len(clients), COUNT)
        return grown / COUNT

    def setUp(self) -> None:
        super().setUp()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)

    def test_stream_holds_no_head(self) -> None:
        """600 streams of one client, each with 2,600 cookies, took 115 MB while they lasted."""
        for name in ("cookies", "headers"):
            held = self.measure(LARGE_HEADS[name], PATH, TOKEN)
            self.assertLess(held, 16_384, name)
        self.assertEqual(len(list(self.factory.clients)), 2 * (COUNT + 1))

    def test_late_answer_to_a_wrong_token_holds_no_head(self) -> None:
        """A stranger's 200 requests with 2,600 parameters took 49 MB."""
        for _ in range(MAX_WRONG):
            self.request("/status.json", Authorization="Bearer wrong")
        for name, head in LARGE_HEADS.items():
            self.assertLess(self.measure(head, "/status.json", "wrong"), 16_384, name)
        late = self.request("/status.json", Authorization="Bearer wrong")
        self.assertEqual(late.received, b"")
        self.clock.advance(1)
        self.wires.flush()
        self.assertEqual(late.status, 401)
