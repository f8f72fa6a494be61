"""The parameters of a query: their names, and the values that several endpoints share."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TypeAlias
from urllib.parse import parse_qsl

from tradeproxy.wire.event import parse_time_down

MAX_ID_LENGTH = 128
"""Characters. A cursor has at most 109."""

MAX_PARAMETERS = 32
"""Parameters in one query. A stranger chooses it, and each one is looked up."""

MAX_NAME_LENGTH = 32
"""Characters of a name that is compared with the known ones: comparing takes quadratic time."""

MAX_TIME_LENGTH = 64
"""Characters of `since` and `until`; a time with nine digits of a second and an offset has 35."""

LAST_EVENT_ID = "lastEventId"

_OFFSET = re.compile("[0-9]{2}:?[0-9]{2}")

Query: TypeAlias = dict[str, str]


class QueryError(Exception):
    """The query is invalid. The text is a line for the client that names the parameter."""


def _check_spelling(name: str, names: tuple[str, ...]) -> None:
    # If a misspelt position were ignored, the client would silently miss the events it asked for.
    if len(name) > MAX_NAME_LENGTH:
        return
    for nearest in get_close_matches(name.lower(), names, cutoff=0.8):  # the nearest is first
        raise QueryError(f"{name}: there is no such parameter; the nearest is {nearest}")


def read_parameters(query: bytes, names: tuple[str, ...]) -> Query:
    """Return the parameters of `query` that are among `names`. Others are ignored.

    Raises QueryError for a name that resembles one of them, and for an empty or repeated one.
    """
    given: Query = {}
    try:
        text = query.decode("latin-1")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise QueryError(f"the query has more than {MAX_PARAMETERS} parameters") from None
    for name, value in pairs:
        if name not in names:
            _check_spelling(name, names)
            continue
        if name in given:
            raise QueryError(f"{name}: is given twice")
        if not value and name != LAST_EVENT_ID:  # without an event, an EventSource has no id
            raise QueryError(f"{name}: is empty")
        given[name] = value
    return given


def read_switch(given: Query, name: str) -> bool:
    """Return whether a parameter is 1; 0 if it is not given. Raises QueryError."""
    value = given.get(name, "0")
    if value not in ("0", "1"):
        raise QueryError(f"{name}: is neither 1 nor 0")
    return value == "1"


def read_limit(given: Query, default: int, maximum: int) -> int:
    """Return the number in `limit`. Raises QueryError."""
    text = given.get("limit", str(default))
    if re.fullmatch("[0-9]{1,4}", text) is None or not 1 <= int(text) <= maximum:
        raise QueryError(f"limit: is not a number from 1 to {maximum}")
    return int(text)


def check_id(name: str, text: str) -> str:
    """Return an id or a cursor without the white space behind it. Raises QueryError."""
    text = text.rstrip()  # such as the end of the line that a shell read it from
    if not text:
        raise QueryError(f"{name}: is empty")
    if len(text) > MAX_ID_LENGTH:
        raise QueryError(
            f"{name}: is longer than any event_id or cursor ({MAX_ID_LENGTH} characters)"
        )
    return text


def parse_time(name: str, text: str) -> tuple[int, bool]:
    """Return the last microsecond that is not after a time, and whether the time is exactly it.

    Raises QueryError.
    """
    try:
        if len(text) > MAX_TIME_LENGTH:
            raise ValueError
        # In a query "+" means a blank, so an unescaped "+02:00" arrives as " 02:00".
        head, _, offset = text.rpartition(" ")
        if ":" in head and _OFFSET.fullmatch(offset):
            text = f"{head}+{offset}"
        return parse_time_down(text)
    except ValueError:
        expected = "a time with its offset from UTC, such as 2026-01-31T14:30:00Z"
        raise QueryError(f"{name}: is not {expected}") from None
