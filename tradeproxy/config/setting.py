"""One setting: its variable, parser and default, and what the two pages say about it.

`.env.example` and the tables of docs/configuration.md are written from these values.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import Field

    from _typeshed import DataclassInstance

    from tradeproxy.config.env import Environment

T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")

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

    def read_list(self, env: Environment) -> tuple[str, ...]:
        """Return the valid items. Each problem of another goes to `env.findings`."""
        return env.parse_list(self.name, self.parse, self.separator)


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
