"""Calls a parser for tests that compare its value or its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tradeproxy.query.parameters import QueryError

P = ParamSpec("P")
T = TypeVar("T")


def parse_or_explain(parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | str:
    """Return the value, or the text of the QueryError."""
    try:
        return parse(*args, **kwargs)
    except QueryError as error:
        return str(error)
