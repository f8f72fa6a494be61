"""Tests for tradeproxy.cli.proxy, with a hostile server over real sockets."""

from __future__ import annotations

import contextlib
import socket
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cli.ask import AskError
from tradeproxy.cli.proxy import fetch_status


class FetchStatusTests(SynchronousTestCase):
    """/status.json of a server that is no proxy."""

    def fetch_from(self, head: bytes, more: bytes) -> str:
        """Return the error at a server that sends `head`, and `more` as long as it can."""
        listening = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.closing(listening), contextlib.suppress(OSError):
                connection = listening.accept()[0]
                with contextlib.closing(connection):
                    connection.settimeout(0.05)
                    connection.sendall(head)
                    while not is_over:
                        with contextlib.suppress(TimeoutError):
                            connection.recv(65536)
                        connection.sendall(more)

        is_over: list[bool] = []
        server = Thread(target=serve, daemon=True)
        server.start()
        try:
            with self.assertRaises(AskError) as caught:
                fetch_status(f"ws://127.0.0.1:{listening.getsockname()[1]}", "", 0.3)
        finally:
            is_over.append(True)
            server.join(5)
        return str(caught.exception)

    def test_answer_without_end_is_overdue(self) -> None:
        """Every read brought something in time, so `status` ran without an end."""
        for head, more in (
            (b"", b"H"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        ):
            self.assertRegex(self.fetch_from(head, more), "no answer in time$")
