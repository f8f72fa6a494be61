"""What many clients need alike is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

KEPT = 8
"""Clients that fell behind together soon read at a few different places, seldom at more."""


class Once(Generic[T]):
    """Keeps the last few things that were made, by what they were made for."""

    def __init__(self) -> None:
        self._made: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for `key`, or what `make` returns now."""
        try:
            return self._made[key]
        except KeyError:
            if len(self._made) == KEPT:
                del self._made[next(iter(self._made))]
            made = self._made[key] = make()
            return made
