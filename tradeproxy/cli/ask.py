"""One request of a command to the running proxy, with a JSON answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.wire.printable import escape_unprintable

_T = TypeVar("_T")

FAILED = 2
"""The exit status if no proxy answers, or if it refuses the request."""

TIMEOUT = 5.0
"""Seconds for the connection, and for each read of the answer."""

MAX_SECONDS = 10.0
"""Seconds for an answer: a server that sends a byte now and then passes every other timeout."""

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of an answer."""

SHAPE_ERRORS: tuple[type[Exception], ...] = (
    *(LookupError, TypeError, AttributeError),
    *(ValueError, ArithmeticError),  # a text or a number that cannot be converted
    RecursionError,  # a nesting that json reads, but neither writes nor formats
)
"""What reading JSON of another shape than expected may raise."""


class AskError(Exception):
    """The proxy gives no answer, or an error. The text is one line."""


def ask_proxy(
    method: str, base_url: str, path: str, token: str, max_seconds: float = MAX_SECONDS
) -> dict[str, Any]:
    """Return the JSON object at a path below a URL. It blocks for some seconds at most.

    `base_url` is with ws or wss, as `proxy.find_url` and `proxy.find_base_url` return it. The path
    follows it, with its query, and is quoted. The token is "" for none. `max_seconds` is for the
    whole answer. Raises AskError.
    """
    try:
        parts = urlsplit(base_url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc:
            raise ValueError
        host, port = parts.hostname, parts.port
    except ValueError:  # not quoted: it may contain a password
        raise AskError("--url: must be like http://localhost:8099") from None
    url = f"{base_url.replace('ws', 'http', 1)}{path.partition('?')[0]}"

    def send() -> tuple[int, bytes]:
        kind = HTTPSConnection if parts.scheme == "wss" else HTTPConnection
        with closing(kind(host, port, timeout=TIMEOUT)) as connection:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, f"{parts.path}{path}", headers=headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_SIZE)

    try:
        status, body = call_within(max_seconds, send)
    except HTTPException:
        raise AskError(f"no proxy at {url}: the answer is not HTTP") from None
    except OSError as error:
        raise AskError(f"no proxy at {url}: {describe_connect_error(error)}") from None
    except ValueError:
        raise AskError(f"no proxy at {url}: invalid URL or token") from None
    if status == 401:
        raise AskError(f"{url}: {explain_rejected_token(token)}")
    try:
        document = json.loads(body)
        if status == 200 and isinstance(document, dict):
            return document
        raise AskError(f"{url}: {document['message']}")
    except (ValueError, LookupError, TypeError, RecursionError):
        raise AskError(f"{url}: HTTP {status}, but not the answer of a tradeproxy") from None


def print_error(error: AskError, *, as_json: bool) -> None:
    """Print the line of an error, or a JSON object with it."""
    line = str(error)
    print(json.dumps({"error": line}) if as_json else escape_unprintable(line))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise AskError for what the block finds to be of another shape."""
    try:
        yield
    except SHAPE_ERRORS:
        raise AskError(f"this version cannot read the proxy's {what}") from None


def write_document(document: dict[str, Any], what: str) -> str:
    """Return a document as JSON. Raises AskError for one that is nested too deeply."""
    with reading(what):
        return json.dumps(document, indent=2)


def explain_rejected_token(token: str) -> str:
    """Return what to do if the proxy rejects `token`, "" if there is none."""
    if token:
        return (
            "the proxy does not accept the token of PROXY_TOKEN or --token-file;"
            " it must be one of PROXY_TOKENS"
        )
    return "the proxy needs a token: set PROXY_TOKEN, or name a file with --token-file"


def call_within(seconds: float, function: Callable[[], _T]) -> _T:
    """Return what `function` returns, and raise what it raises; TimeoutError after `seconds`.

    After that, `function` goes on in a thread that does not keep the process alive.
    """
    result: Future[_T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except Exception as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return result.result(timeout=seconds)
