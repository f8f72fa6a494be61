"""Behind nginx, with the configuration of docs/reverse-proxy.md."""

from __future__ import annotations

import shutil
from pathlib import Path

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.web.client import Agent

from tests.support.certificates import Authority
from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.processes import free_port, spawn
from tests.support.sockets import SocketClient, SocketTestCase

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
CONFIGURATION = Path(__file__).parents[1] / "system/interop/configurations/nginx.conf"
TEMPORARY = "".join(
    f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
"""nginx's own directories belong to root."""

GLOBAL = "daemon off; master_process off; pid nginx.pid; error_log stderr notice;"


class NginxTests(SocketTestCase):
    """Clients connect to nginx over TLS; it connects to the proxy from 127.0.0.1."""

    if NGINX is None:
        skip = "nginx is not installed"

    async def start_nginx(self) -> None:
        """Start nginx with a certificate for localhost, in front of the proxy."""
        directory = Path(self.make_directory())
        Authority(str(directory)).issue("localhost", "127.0.0.1")  # localhost.crt, localhost.key
        self.trusted = directory
        self.front_port = free_port()
        text = CONFIGURATION.read_text(encoding="utf-8")
        for printed, actual in (
            ("listen 443", f"listen 127.0.0.1:{self.front_port}"),
            ("127.0.0.1:8099", f"127.0.0.1:{self.port}"),
            ("http {", f"http {{ {TEMPORARY}"),
        ):
            self.assertIn(printed, text)
            text = text.replace(printed, actual)
        (directory / "nginx.conf").write_text(text, encoding="utf-8")
        assert NGINX is not None, "the tests are skipped"
        arguments = ("-e", "stderr", "-g", GLOBAL, "-p", str(directory), "-c", "nginx.conf")
        nginx = spawn([NGINX, *arguments], str(directory), {})
        self.addCleanup(lambda: Deferred.fromCoroutine(nginx.stop()))
        await nginx.says("getrlimit")  # after it listens

    async def connect_from(self, address: str, origin: str) -> SocketClient:
        """Begin a WebSocket handshake through nginx."""
        endpoint = clientFromString(
            reactor,
            f"tls:127.0.0.1:{self.front_port}:trustRoots={self.trusted}:bindAddress={address}",
        )
        url = f"wss://localhost:{self.front_port}/trade-updates-paper"
        return await self.dial(endpoint, url, origin=origin)

    async def test_page_and_address_of_a_client_are_its_own(self) -> None:
        """Without PROXY_TRUSTED_PROXIES, the page of the dashboard itself gets 403."""
        await self.simulate()
        proxy = await self.proxy(PROXY_TRUSTED_PROXIES="127.0.0.1")
        await self.start_nginx()
        own = f"https://localhost:{self.front_port}"
        client = await self.connect_from("127.0.0.2", own)
        await client.opened
        client.sendMessage(AUTH)
        await client.has(1)
        self.assertEqual(client.taken(), [AUTHENTICATED])
        foreign = await self.connect_from("127.0.0.3", "https://evil.example")
        await foreign.gone()
        self.assertIn(" 403 ", foreign.http_status_line)
        await proxy.says("rejected 127.0.0.3: this Origin")
        answer = await HTTPClient(Agent(reactor)).get(f"http://127.0.0.1:{self.port}/status.json")
        [listed] = (await answer.json())["clients"]["listed"]
        self.assertEqual(listed["address"], "127.0.0.2")
        await proxy.stop()

    async def test_untrusted_nginx_makes_its_page_a_foreign_one(self) -> None:
        """That is the default: anyone can send the headers."""
        await self.simulate()
        proxy = await self.proxy()
        await self.start_nginx()
        client = await self.connect_from("127.0.0.2", f"https://localhost:{self.front_port}")
        await client.gone()
        self.assertIn(" 403 ", client.http_status_line)
        await proxy.says(": this Origin")
        await proxy.stop()
