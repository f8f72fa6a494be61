"""The running proxy that a command connects to: its URL, the token, and what /status.json says."""

from __future__ import annotations

import json
import re
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from tradeproxy.config.addresses import PORT
from tradeproxy.config.files import read_text
from tradeproxy.runtime.connect_errors import describe_connect_error

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

    from tradeproxy.config.env import Environment

_T = TypeVar("_T")

TIMEOUT = 5.0
"""Seconds for the connection, and for each read of the answer."""

MAX_SIZE = 4 * 1024 * 1024
"""Bytes of /status.json; one with 200 clients has 50 KB."""

MAX_SECONDS = 10.0
"""Seconds for /status.json: a server that sends a byte now and then passes every other timeout."""

STREAM_PATH = "/trade-updates-"


class NoStatusError(Exception):
    """The proxy has no status for us. The text is one line, with the URL."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that name the proxy. None is a secret: all users can read command lines."""
    parser.add_argument("--url", help="the proxy; default ws://localhost with PROXY_PORT")
    parser.add_argument(
        "--token-file", metavar="FILE", help="read the token from this file; default PROXY_TOKEN"
    )
    parser.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")


def find_base_url(env: Environment, url: str | None) -> str:
    """Return the WebSocket URL for `--url`; by default that of the local proxy.

    A problem with PROXY_PORT goes into `env.findings`.
    """
    if url is None:
        return f"ws://localhost:{PORT.read(env)}"
    # The proxy's log shows its addresses with http.
    return url.replace("http", "ws", 1) if re.match("https?://", url) else url


def find_url(env: Environment, url: str | None, account: str | None) -> str:
    """Return the WebSocket URL for `--url` and an account; by default the local proxy and paper.

    A problem with PROXY_PORT goes into `env.findings`. Raises SystemExit for an account beside a
    URL with a path.
    """
    url = find_base_url(env, url)
    try:
        has_path = urlsplit(url).path.strip("/") != ""
    except ValueError:
        has_path = True  # Client raises the error for an invalid URL
    if not has_path:
        return f"{url.rstrip('/')}{STREAM_PATH}{quote(account or 'paper', safe='')}"
    if account is not None:
        raise SystemExit("--url: has a path, so an account cannot be given as well")
    return url


def read_token(env: Environment, file: str | None) -> str:
    """Return the token, or "" if none is set. Errors never quote it.

    Raises SystemExit if the file is unreadable or empty.
    """
    if file is None:
        return env.read_secret("PROXY_TOKEN")
    env.warn_of_others("--token-file", file)
    try:
        with Path(file).open(encoding="utf-8-sig") as opened:
            token = read_text(opened).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SystemExit(f"--token-file: cannot be read ({reason})") from None
    if not token:
        raise SystemExit("--token-file: is empty")
    return token


def list_accounts(stream_url: str, token: str) -> list[str]:
    """Return the names of the accounts at the proxy of a stream; none if it has no status for us.

    `stream_url` is as find_url returns it. It blocks for some seconds at most.
    """
    try:
        accounts = fetch_status(stream_url.rpartition(STREAM_PATH)[0], token)["accounts"]
    except NoStatusError:
        return []
    return sorted(accounts) if isinstance(accounts, dict) else []


def explain_rejected_token(token: str) -> str:
    """Return what to do if the proxy rejects `token`, "" if there is none."""
    if token:
        return (
            "the proxy does not accept the token of PROXY_TOKEN or --token-file;"
            " it must be one of PROXY_TOKENS"
        )
    return "the proxy needs a token: set PROXY_TOKEN, or name a file with --token-file"


def fetch_status(base_url: str, token: str, max_seconds: float = MAX_SECONDS) -> dict[str, Any]:
    """Return the document at /status.json (docs/dashboard.md). It blocks for some seconds at most.

    Args:
        base_url: the WebSocket URL of the proxy, without a stream's path.
        token: a token, or "" for none.
        max_seconds: for the whole answer.

    Raises NoStatusError.
    """
    try:
        parts = urlsplit(base_url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc:
            raise ValueError
        host, port = parts.hostname, parts.port
    except ValueError:  # not quoted: it may contain a password
        raise NoStatusError("--url: must be like http://localhost:8099") from None
    url = f"{base_url.rstrip('/').replace('ws', 'http', 1)}/status.json"
    try:
        status, body = call_within(
            max_seconds, lambda: _get(parts.scheme == "wss", host, port, urlsplit(url).path, token)
        )
    except HTTPException:
        raise NoStatusError(f"no proxy at {url}: the answer is not HTTP") from None
    except (OSError, ValueError) as error:
        cause = (
            describe_connect_error(error) if isinstance(error, OSError) else "invalid URL or token"
        )
        raise NoStatusError(f"no proxy at {url}: {cause}") from None
    if status == 401:
        raise NoStatusError(f"{url}: {explain_rejected_token(token)}")
    try:
        document = json.loads(body)
        if status != 200:
            raise NoStatusError(f"{url}: {document['message']}")
        if {"accounts", "clients", "started"} <= document.keys():
            return dict(document)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise NoStatusError(f"{url}: HTTP {status}, but not the status of a tradeproxy")


def _get(tls: bool, host: str, port: int | None, path: str, token: str) -> tuple[int, bytes]:
    with closing(
        HTTPSConnection(host, port, timeout=TIMEOUT, context=ssl.create_default_context())
        if tls
        else HTTPConnection(host, port, timeout=TIMEOUT)
    ) as connection:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(MAX_SIZE)


def call_within(seconds: float, function: Callable[[], _T]) -> _T:
    """Return what `function` returns, and raise what it raises; TimeoutError after `seconds`.

    After that, `function` goes on in a thread that does not keep the process alive.
    """
    results: SimpleQueue[_T | Exception] = SimpleQueue()

    def run() -> None:
        try:
            results.put(function())
        except Exception as error:
            results.put(error)

    Thread(target=run, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result
