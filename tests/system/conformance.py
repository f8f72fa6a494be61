"""Runs the Autobahn suite's cases for WebSocket servers against the proxy's own server.

    python -m tests.system.conformance [--cases PATTERN] [--tls]

The server is DownstreamFactory with its options and its protocol. Only three things differ:
messages may be larger, each is sent back, and clients need no login.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.support.certificates import Authority
from tests.support.journals import memory_journal
from tests.support.processes import spawn
from tests.support.socket_limits import limit_sockets
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Grant, Rejection, Tokens
from tradeproxy.downstream.clients import DownstreamService
from tradeproxy.downstream.connection import DownstreamProtocol
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.session import ProtocolMode
from tradeproxy.hub.account import Account
from tradeproxy.query.stream import SubscribeOptions
from tradeproxy.web.site import build_site

reactor: Any = chosen
LARGEST = 64 * 1024 * 1024
"""Bytes; some cases send 16 MiB in one message."""

ACCEPTED = frozenset({"OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED"})
"""UNIMPLEMENTED is compression (12.*, 13.*), which the proxy does not offer."""


class Echo(DownstreamProtocol):
    """A connection that sends every message back."""

    def onOpen(self) -> None:
        """Count the client as logged in: other sockets cannot send 16 MiB."""
        super().onOpen()
        self._context.clients.sockets.log_in(self.transport)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


class EchoFactory(DownstreamFactory):
    """The factory for echoing connections."""

    protocol = Echo


class UpgradingResource(Resource):
    """Upgrades every request, at any path."""

    isLeaf = True

    def __init__(self, factory: EchoFactory, account: Account) -> None:
        super().__init__()
        self._factory = factory
        self._account = account

    def render(self, request: Request) -> bytes | int:
        options = SubscribeOptions()
        answer = self._factory.upgrade(
            request, self._account, ProtocolMode.ORIGINAL, options, Grant(Tokens(()), ())
        )
        return answer.reason.encode() if isinstance(answer, Rejection) else answer


class TlsRelay(ProxyServer):
    """A connection of the suite, which has no TLS, to a server that has it."""

    def connectionMade(self) -> None:
        """Connect, through `connectTCP` below."""
        self.reactor: Any = self
        super().connectionMade()

    def connectTCP(self, host: str, port: int, factory: Any) -> Any:
        """Connect with TLS."""
        return reactor.connectSSL(host, port, factory, CertificateOptions())


async def run_cases(directory: str, cases: str, *, tls: bool = False) -> dict[str, str]:
    """Return the verdict of each case, by its number; with `tls`, all go through a TlsRelay."""
    journal = memory_journal(reactor)
    account = Account("paper", journal, reactor)
    limits = Limits(max_message=LARGEST, auth_timeout=3600)
    factory = EchoFactory(limits, reactor, limit_sockets(limits))
    site = build_site(
        {"paper": account}, factory, Admission((), (), Tokens(())), reactor, reactor.seconds
    )
    site.resource = UpgradingResource(factory, account)
    plain = "tcp:0:interface=127.0.0.1"
    endpoint = Authority(directory).issue("localhost").endpoint() if tls else plain
    port: Any = await serverFromString(reactor, endpoint).listen(site)
    listening = [port]
    if tls:
        relay = ProxyFactory("127.0.0.1", port.getHost().port)
        relay.protocol = TlsRelay
        listening.append(await serverFromString(reactor, plain).listen(relay))
    address = f"127.0.0.1:{listening[-1].getHost().port}"
    suite = spawn(("kosoku", "--include", cases, "--outdir", directory, address), directory, {})
    await suite.ended
    for port in listening:
        await port.stopListening()
    await DownstreamService(factory.clients, reactor).stopService()
    journal.close()
    reports = list(Path(directory).rglob("index.json"))
    if not reports:
        raise SystemExit(suite.output)
    (agent,) = json.loads(reports[0].read_text()).values()
    return {case: verdict["behavior"] for case, verdict in agent.items()}


def main() -> None:
    """Run the cases; print the number of each verdict and the cases that failed."""
    parser = ArgumentParser(
        prog="conformance", description="The Autobahn suite's cases for servers."
    )
    parser.add_argument("--cases", default="*", help="a number or pattern, such as 5.*")
    parser.add_argument("--tls", action="store_true", help="the server has TLS")
    arguments = parser.parse_args()

    async def run(_: Any) -> None:
        with TemporaryDirectory() as directory:
            verdicts = await run_cases(directory, arguments.cases, tls=arguments.tls)
        for verdict, count in Counter(verdicts.values()).most_common():
            sys.stdout.write(f"{verdict:15} {count:4}\n")
        bad = [case for case, verdict in verdicts.items() if verdict not in ACCEPTED]
        if bad or not verdicts:
            raise SystemExit(f"failed: {', '.join(bad)}")

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
