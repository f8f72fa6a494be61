"""The running proxy that a command connects to: its URL, the token, and what /status.json says."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tradeproxy.cli.ask import MAX_SECONDS, AskError, ask_proxy
from tradeproxy.cli.findings import print_findings
from tradeproxy.config.addresses import PORT
from tradeproxy.config.env import Environment
from tradeproxy.config.files import read_text

STREAM_PATH = "/trade-updates-"


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


def read_access(arguments: Namespace) -> tuple[str, str]:
    """Return the URL of the account's stream, and the token or "". Prints what is wrong.

    Raises SystemExit.
    """
    env = Environment.read(os.environ, Path.cwd(), arguments.env_file)
    url = find_url(env, arguments.url, arguments.account)
    token = read_token(env, arguments.token_file)
    print_findings(env.findings)
    return url, token


def list_accounts(stream_url: str, token: str) -> list[str]:
    """Return the names of the accounts at the proxy of a stream; none if it has no status for us.

    `stream_url` is as find_url returns it. It blocks for some seconds at most.
    """
    try:
        accounts = fetch_status(stream_url.rpartition(STREAM_PATH)[0], token)["accounts"]
    except AskError:
        return []
    return sorted(accounts) if isinstance(accounts, dict) else []


def fetch_status(base_url: str, token: str, max_seconds: float = MAX_SECONDS) -> dict[str, Any]:
    """Return the document at /status.json (docs/dashboard.md). It blocks for `max_seconds` at most.

    `base_url` is the WebSocket URL of the proxy, without a stream's path. Raises AskError.
    """
    document = ask_proxy("GET", base_url.rstrip("/"), "/status.json", token, max_seconds)
    if {"accounts", "clients", "started"} <= document.keys():
        return document
    raise AskError("the answer at /status.json is not the status of a tradeproxy")
