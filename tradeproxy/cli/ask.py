"""One request of a command to the running proxy, with a JSON answer."""

from __future__ import annotations

import json
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from tradeproxy.cli.proxy import MAX_SECONDS, TIMEOUT, call_within, explain_rejected_token
from tradeproxy.runtime.connect_errors import describe_connect_error

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of an answer."""


class AskError(Exception):
    """The proxy gives no answer, or an error. The text is one line."""


def ask_proxy(method: str, stream_url: str, path: str, token: str) -> dict[str, Any]:
    """Return the JSON object at a path below an account's. It blocks for some seconds at most.

    Args:
        method: GET or POST.
        stream_url: the account's, as `proxy.find_url` returns it.
        path: what follows it, with its query; quoted.
        token: a token, or "" for none.

    Raises AskError.
    """
    try:
        parts = urlsplit(stream_url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc:
            raise ValueError
        host, port = parts.hostname, parts.port
    except ValueError:  # not quoted: it may contain a password
        raise AskError("--url: must be like http://localhost:8099") from None
    url = stream_url.replace("ws", "http", 1)

    def send() -> tuple[int, bytes]:
        connection = (
            HTTPSConnection(host, port, timeout=TIMEOUT, context=ssl.create_default_context())
            if parts.scheme == "wss"
            else HTTPConnection(host, port, timeout=TIMEOUT)
        )
        with closing(connection):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, f"{parts.path}{path}", headers=headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_SIZE)

    try:
        status, body = call_within(MAX_SECONDS, send)
    except HTTPException:
        raise AskError(f"no proxy at {url}: the answer is not HTTP") from None
    except (OSError, ValueError) as error:
        cause = (
            describe_connect_error(error) if isinstance(error, OSError) else "invalid URL or token"
        )
        raise AskError(f"no proxy at {url}: {cause}") from None
    if status == 401:
        raise AskError(f"{url}: {explain_rejected_token(token)}")
    try:
        document = json.loads(body)
        if status == 200 and isinstance(document, dict):
            return document
        raise AskError(f"{url}: {document['message']}")
    except (ValueError, LookupError, TypeError, RecursionError):
        raise AskError(f"{url}: HTTP {status}, but not the answer of a tradeproxy") from None
