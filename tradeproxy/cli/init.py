"""`tradeproxy init`: ask for the keys of an account, try them, and write `.env`."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from getpass import getpass
from pathlib import Path

from tradeproxy.cli.findings import print_findings
from tradeproxy.cli.reactor import run_coroutine
from tradeproxy.config.accounts import LIVE as LIVE_URL
from tradeproxy.config.accounts import PAPER as PAPER_URL
from tradeproxy.config.accounts import AccountSettings, BaseUrl, prefix_variables
from tradeproxy.config.command import name_command
from tradeproxy.config.connect_proxy import ConnectProxy, read_connect_proxy
from tradeproxy.config.env import Environment, Findings, is_quoted
from tradeproxy.config.setting import is_visible_ascii
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.messages import Dialect

MODE = 0o600
"""Only the owner can read the keys."""

_PLAIN = re.compile("[A-Za-z0-9_./:+=-]+")
"""A value that needs no quotes in .env."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command. None is a key: all users can read command lines."""
    parser.add_argument(
        "account",
        nargs="?",
        choices=("paper", "live"),
        default="paper",
        help="the account whose keys you have; default paper",
    )
    parser.add_argument("--env-file", metavar="FILE", help="write this file instead of .env")


def main(arguments: Namespace) -> None:
    """Ask for the keys without echo, try them, and write them to a file that does not exist yet.

    A URL of the account in the environment is written too: the keys were tried there.

    Raises SystemExit with one line: the file exists or cannot be written, there is no terminal, a
    key is malformed, or the user does not want the file.
    """
    from tradeproxy.cli.check import check_login  # it imports Autobahn

    path = Path.cwd() / (arguments.env_file or ".env")
    if os.path.lexists(path):
        raise SystemExit(f"{path}: exists and is not changed; edit it, or name another --env-file")
    if not sys.stdin.isatty():
        raise SystemExit("tradeproxy init: needs a terminal; a program can write .env itself")
    prefix = prefix_variables(arguments.account)
    url, url_text, proxy = _read_way(prefix, arguments.account)
    print(f"The keys of the {arguments.account} account. They are not shown.")
    try:
        names = (f"{prefix}API_KEY", f"{prefix}SECRET_KEY")
        key, secret = (_ask_secret(name) for name in names)
        keys = KeyPair(Secret(key), Secret(secret))
        account = AccountSettings(arguments.account, url, keys, Dialect.AUTHENTICATE, names[0])
        result = run_coroutine(lambda reactor: check_login(account, reactor, proxy))
        print(result.line)
        if not result.ok and input(f"Write {path} in spite of that? [y/N] ").lower() != "y":
            raise SystemExit("nothing was written")
    except (EOFError, KeyboardInterrupt):
        raise SystemExit("\nnothing was written") from None
    try:
        variables = dict(zip(names, (key, secret), strict=True))
        if url_text is not None:
            variables[f"{prefix}URL"] = url_text
        write_private(path, format_env(variables))
    except OSError as error:
        raise SystemExit(f"{path}: cannot be written: {error.strerror}") from None
    print(f"{path} is written; only you can read it. Start the proxy with `{name_command('run')}`.")


def format_env(variables: dict[str, str]) -> str:
    """Return the lines of a .env with these variables."""
    lines = ["# The settings of tradeproxy: .env.example and docs/configuration.md list them all."]
    lines += [f"{name}={_quote(value)}" for name, value in variables.items()]
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises OSError, also if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, MODE)  # a umask such as 0777 removes the owner's permissions too
            file.write(text)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def _read_way(prefix: str, account: str) -> tuple[BaseUrl, str | None, ConnectProxy | None]:
    """Return the account's base URL, its text if it is set, and the HTTP proxy on the way to it."""
    env = Environment(os.environ, Path.cwd(), Findings())
    url = env.parse(f"{prefix}URL", BaseUrl.parse, LIVE_URL if account == "live" else PAPER_URL)
    proxy = read_connect_proxy(os.environ, env.findings)
    print_findings(env.findings)
    return url, env.get(f"{prefix}URL"), proxy


def _ask_secret(name: str) -> str:
    text = getpass(f"{name}: ").strip()
    if is_quoted(text):
        text = text[1:-1].strip()
        print(f"{name}: the quotes around it are left out")
    if not text or not is_visible_ascii(text):
        raise SystemExit(f"{name}: is empty, or contains white space or a character beyond ASCII")
    return text


def _quote(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
