"""Which strategy a `client_order_id` names. Pure.

    client_order_id                         strategy
    --------------------------------------  ---------------------------------------------
    none, empty, or a UUID                  NO_STRATEGY: Alpaca or a library made it
    any other, without a rule               the text before the first `-`
    any other, with a list of prefixes      the longest prefix with which it begins
    any other, with a regular expression    the text of the expression's group

NO_STRATEGY too where this gives no text, or one that `is_strategy_name` refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

NO_STRATEGY = "(none)"
OTHER_STRATEGIES = "(other)"
"""What stands for all strategies beyond MAX_STRATEGIES."""

MAX_STRATEGIES = 1000
"""Strategies of one account."""

MAX_NAME = 128
"""Characters of a strategy's name: Alpaca allows as many in a client_order_id."""

MAX_PREFIXES = 1000
"""Prefixes in a rule."""

MAX_PATTERN = 1000
"""Characters of a regular expression."""

_MAX_PROGRAM = 1 << 20
"""Bytes that RE2 may use for an expression. A pattern that needs more is refused."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")


class StrategyRule(Protocol):
    """How a client_order_id that is no UUID names a strategy."""

    @property
    def text(self) -> str:
        """The setting that describes the rule, or an equal one."""

    def find(self, client_order_id: str) -> str:
        """Return the strategy's name; "" for none."""


@dataclass(frozen=True)
class BeforeDash:
    """The text before the first `-`. Without one there is no strategy. All instances are equal."""

    text: ClassVar = ""
    """The setting that describes the rule."""

    def find(self, client_order_id: str) -> str:
        """Return the strategy's name; "" for none."""
        name, dash, _ = client_order_id.partition("-")
        return name if dash else ""


class Prefixes:
    """The longest of some prefixes. Rules of equal prefixes are equal."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = frozenset(prefixes)
        self.text = ",".join(sorted(self.prefixes))
        self._lengths = sorted({len(prefix) for prefix in self.prefixes}, reverse=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prefixes) and other.prefixes == self.prefixes

    def __hash__(self) -> int:
        return hash(self.prefixes)

    def find(self, client_order_id: str) -> str:
        """Return the strategy's name; "" for none."""
        # One look-up for each length, and an id has at most MAX_NAME.
        starts = (client_order_id[:length] for length in self._lengths)
        return next((start for start in starts if start in self.prefixes), "")


@dataclass(frozen=True)
class Pattern:
    """What the group of a regular expression matches. Rules of one expression are equal.

    RE2 searches in time that is linear in the id's length: no expression can delay the proxy, as
    one with nested repetitions can with Python's `re`. It has no back-references and no
    look-around.
    """

    text: str
    search: Callable[[str], Any] = field(compare=False)

    def find(self, client_order_id: str) -> str:
        """Return the strategy's name; "" for none."""
        match = self.search(client_order_id)
        return (match[1] or "") if match is not None else ""


class RuleError(ValueError):
    """A rule that cannot be used. Its text says why, without the rule."""


def parse_rule(text: str) -> StrategyRule:
    """Return the rule that a setting describes.

    Text with a `(` is a regular expression, "" is BeforeDash, any other a list of prefixes,
    separated by commas. Raises RuleError.
    """
    if "(" in text:
        return _compile(text)
    prefixes = tuple(part for part in (part.strip() for part in text.split(",")) if part)
    if len(prefixes) > MAX_PREFIXES:
        raise RuleError(f"more than {MAX_PREFIXES:,} prefixes")
    if not all(is_strategy_name(prefix) for prefix in prefixes):
        raise RuleError(f"a prefix has at most {MAX_NAME} printable characters")
    return Prefixes(prefixes) if prefixes else BeforeDash()


def _compile(pattern: str) -> Pattern:
    try:
        import re2  # type: ignore[import-untyped] # it has no types
    except ImportError:
        raise RuleError(
            "a regular expression needs RE2: pip install 'tradeproxy[re2]', or list prefixes"
        ) from None
    if len(pattern) > MAX_PATTERN:
        raise RuleError(f"more than {MAX_PATTERN:,} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_PROGRAM
    try:
        expression = re2.compile(pattern, options)
    except (re2.error, UnicodeError):
        raise RuleError("no regular expression that RE2 accepts") from None
    if expression.groups != 1:
        raise RuleError(f"{expression.groups} groups; one is needed")
    return Pattern(pattern, expression.search)


def is_strategy_name(text: str) -> bool:
    """Whether a strategy may have this name: 1 to MAX_NAME printable characters."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and not text.isspace()


def name_strategy(rule: StrategyRule, client_order_id: str | None) -> str:
    """Return the strategy that an id names: see this module's table."""
    if not client_order_id or len(client_order_id) > MAX_NAME or _UUID.fullmatch(client_order_id):
        return NO_STRATEGY
    try:
        name = rule.find(client_order_id).strip()
    except UnicodeError:  # a lone surrogate, which RE2 cannot take
        return NO_STRATEGY
    return name if is_strategy_name(name) and name != OTHER_STRATEGIES else NO_STRATEGY
