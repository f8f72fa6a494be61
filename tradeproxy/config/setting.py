"""One setting: its variable, its parser, its default, and what the two pages say about it.

`.env.example` and the tables of docs/configuration.md are written from these values. Parsers that
several settings share are here too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import SplitResult, urlsplit

from tradeproxy.wire import hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import Field

    from _typeshed import DataclassInstance

T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")
E = TypeVar("E", bound=Enum)

_KEY = "settings"


class Reader(Protocol):
    """What reads variables: the environment, or the part of it that is one webhook."""

    def parse(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Return the parsed variable, or the default if it is unset or invalid."""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A variable and its value.

    name: the variable. A part in angle brackets stands for a name that the user chooses.
    parse: makes the value of a text. It raises ValueError with a reason for the user.
    text: the default as the user would write it; "" if the variable has none.
    what: a phrase of Markdown for both pages.
    more: sentences that only .env.example has.
    cell: the default for people, where `text` does not show it.
    secret: `<name>_FILE` can name a file that contains the value.
    reload: a reload replaces the value; otherwise a change needs a restart.
    """

    name: str
    parse: Callable[[str], T]
    text: str
    what: str
    more: str = ""
    cell: str = ""
    secret: bool = False
    reload: bool = False

    @property
    def default(self) -> T:
        """The value of an unset variable."""
        return self.parse(self.text)

    @property
    def names(self) -> tuple[str, ...]:
        """The variable, and that of its file."""
        return (self.name, f"{self.name}_FILE") if self.secret else (self.name,)

    def read(self, reader: Reader) -> T:
        """Return the value. The default replaces an invalid one, which is a finding."""
        return reader.parse(self.name, self.parse, self.default)


@dataclass(frozen=True, slots=True)
class ListSetting(Setting[str]):
    """A list of texts, each in the form that `parse` returns. Its default is `text` for people.

    separator: what is between two items; None for white space.
    """

    separator: str | None = ","


def setting(
    name: str,
    parse: Callable[[str], T],
    text: str,
    what: str,
    more: str = "",
    cell: str = "",
    reload: bool = False,
) -> T:
    """Declare a field of a dataclass that is one setting. The arguments are those of Setting."""
    made = Setting(name, parse, text, what, more, cell, reload=reload)
    value: T = field(default=made.default, metadata=made_of(made))
    return value


def made_of(*settings: Setting[Any]) -> Mapping[str, tuple[Setting[Any], ...]]:
    """Return the metadata of a field whose value a function makes of these settings."""
    return {_KEY: settings}


def settings_in(part: Field[Any]) -> tuple[Setting[Any], ...]:
    """Return the settings of which the value of a field is made; none for most fields."""
    made: tuple[Setting[Any], ...] = part.metadata.get(_KEY, ())
    return made


def list_settings(kind: DataclassInstance | type[DataclassInstance]) -> tuple[Setting[Any], ...]:
    """Return the settings in all fields of a dataclass."""
    return tuple(each for part in fields(kind) for each in settings_in(part))


def read_fields(kind: type[D], reader: Reader, **others: object) -> D:
    """Return a dataclass whose fields are read from its settings, besides the `others`."""
    read = {
        part.name: made[0].read(reader)
        for part in fields(kind)
        if part.name not in others and (made := settings_in(part))
    }
    return kind(**read, **others)


# Parsers.


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

    `schemes` has, for each scheme that is allowed, whether it uses TLS. Raises ValueError with
    `reason` for any other URL. It does not quote the URL, which may contain a password.
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
