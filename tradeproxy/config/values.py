"""Parsers for values that several settings share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from tradeproxy.wire import hosts

E = TypeVar("E", bound=Enum)


def whole_number(text: str) -> int:
    """Parse a whole number of at least 1. Raises ValueError with a reason for the user."""
    # The pattern bounds the length: int() of thousands of digits raises an error of its own.
    # It also excludes "1_000" and the digits of other scripts, which int() accepts.
    if re.fullmatch(r"[0-9]{1,18}", text) and int(text) >= 1:
        return int(text)
    raise ValueError(f"{text!r} is not a whole number (1 or more)")


def seconds(text: str) -> float:
    """Parse a number of seconds above 0. Raises ValueError with a reason for the user."""
    # float() also accepts "nan", "inf" and "1e999", which no timer can use.
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) and float(text) > 0:
        return float(text)
    raise ValueError(f"{text!r} is not a number of seconds (more than 0)")


def flag(text: str) -> bool:
    """Parse yes or no, in any case. Raises ValueError with a reason for the user."""
    try:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
            text.lower()
        ]
    except KeyError:
        raise ValueError(f"{text!r} is neither yes (1, true) nor no (0, false)") from None


def choice(kind: type[E], *, any_case: bool = False) -> Callable[[str], E]:
    """Return a parser of the values of an enum, which raises ValueError with all of them."""

    def parse(text: str) -> E:
        try:
            return kind(text.lower() if any_case else text)
        except ValueError:
            known = [str(each.value) for each in kind]
            expected = (
                f"neither {' nor '.join(known)}"
                if len(known) == 2
                else f"not one of {', '.join(known)}"
            )
            raise ValueError(f"{text!r} is {expected}") from None

    return parse


def is_visible_ascii(text: str) -> bool:
    """Whether all characters are visible ASCII, as in keys, tokens and URLs."""
    return all("!" <= character <= "~" for character in text)


def split_url(
    text: str, schemes: Mapping[str, bool], reason: str
) -> tuple[SplitResult, bool, str, int]:
    """Split a URL. Return its parts, whether it uses TLS, its canonical host, and its port.

    Args:
        text: the URL.
        schemes: whether each scheme that is allowed uses TLS.
        reason: the text of the ValueError for any other URL. It does not quote the URL, which may
            contain a password.
    """
    if not is_visible_ascii(text):  # urlsplit removes line breaks and tabs silently
        raise ValueError(reason)
    try:
        parts = urlsplit(text)
        secure = schemes[parts.scheme]
        host = hosts.canonicalize(parts.hostname or "")
        port = get_default_port(secure) if parts.port is None else parts.port
    except (ValueError, KeyError):
        raise ValueError(reason) from None
    if not port:
        raise ValueError(reason)
    return parts, secure, host, port


def check_encoding(text: str) -> None:
    """Raise ValueError, with a reason for the user, if a part of a URL is not percent-encoded."""
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("contains a % that starts no percent-encoded character; write %25 for a %")


def get_default_port(secure: bool) -> int:
    """Return the port of https and wss, or that of http and ws."""
    return 443 if secure else 80
