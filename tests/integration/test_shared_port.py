"""Several proxies on one port, by PROXY_REUSE_PORT or by an inherited socket."""

from __future__ import annotations

import os
import socket

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.client import Agent

from tests.support.processes import SCRIPTS, Command, free_port, spawn
from tests.support.sockets import SocketTestCase

MANY = 300
"""Connections. Each of two processes gets at least one, except with probability 2 ** -299."""


class SharedPortTests(SocketTestCase):
    """Each process has its own account. A test recognizes a process by it."""

    def environment(self, account: str) -> dict[str, str]:
        """Return the settings of a proxy with this account and an unreachable Alpaca."""
        return {
            f"ALPACA_{account}_API_KEY": "PKTEST",
            f"ALPACA_{account}_SECRET_KEY": "test-secret",
            f"ALPACA_{account}_URL": "http://127.0.0.1:1",
            "PROXY_PORT": str(self.port),
        }

    def run_proxy(self, account: str, **environment: str) -> Command:
        return self.command("tradeproxy", "run", **self.environment(account), **environment)

    def finish(self, command: Command) -> Deferred[None]:
        return Deferred.fromCoroutine(command.finish())

    async def list_responders(self, wanted: int) -> set[str]:
        """Connect until `wanted` processes answered, at most MANY times; return their accounts."""
        client, accounts = HTTPClient(Agent(reactor)), set[str]()
        for _ in range(MANY):
            answer = await client.get(f"http://127.0.0.1:{self.port}/trade-updates-one")
            accounts.add({426: "one", 404: "other"}[answer.code])
            if len(accounts) == wanted:
                break
        return accounts

    async def test_reuse_port_shares_port_between_two_processes(self) -> None:
        """Both serve. A third without the setting fails. After one stops, the other serves all."""
        self.port = free_port()
        one = self.run_proxy("ONE", PROXY_REUSE_PORT="1")
        await one.says("listening on")
        other = self.run_proxy("OTHER", PROXY_REUSE_PORT="1")
        await other.says("listening on")
        self.assertEqual(await self.list_responders(2), {"one", "other"})
        third = self.run_proxy("THIRD", PROXY_HOST="127.0.0.1")
        self.assertEqual(await third.ended, 1)
        self.assertIn(f"127.0.0.1:{self.port} is in use", third.output)
        await one.stop()
        self.assertEqual(await self.list_responders(2), {"other"})
        for command in (one, other):
            self.assertNotIn("Traceback", command.output)

    async def test_port_in_use_without_reuse_port_fails(self) -> None:
        """The first does not share the port, so the second fails with one line."""
        self.port = free_port()
        first = self.run_proxy("ONE", PROXY_HOST="127.0.0.1")
        await first.says("listening on")
        second = self.run_proxy("OTHER", PROXY_HOST="127.0.0.1", PROXY_REUSE_PORT="1")
        self.assertEqual(await second.ended, 1)
        self.assertIn(f"127.0.0.1:{self.port} is in use", second.output)

    async def test_inherited_socket_serves_two_processes(self) -> None:
        """As with one systemd socket unit: any process accepts; a stop loses no connection."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.addCleanup(listening.close)
        self.port = listening.getsockname()[1]
        commands = []
        for account in ("ONE", "OTHER"):
            environment = self.environment(account) | {
                "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
                "LISTEN_FDS": "1",
                "LISTEN_FDNAMES": "stream",
                "PROXY_LISTEN": "systemd:domain=INET:index=0",
            }
            program = ("/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", "tradeproxy", "run")
            command = spawn(
                program, self.make_directory(), environment, inherited=listening.fileno()
            )
            self.addCleanup(self.finish, command)
            await command.says("listening on")
            commands.append(command)
        await self.list_responders(2)  # the kernel decides which process answers
        await commands[0].stop()
        self.assertEqual(await self.list_responders(1), {"other"})
        for command in commands:
            self.assertNotIn("Traceback", command.output)
