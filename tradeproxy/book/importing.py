"""The import of fills that are older than the log, as others see it, and the pages it makes."""

from __future__ import annotations

import zlib
from enum import Enum
from typing import Protocol

from msgspec import MsgspecError, Struct
from msgspec.json import Decoder, encode

from tradeproxy.book.executions import Execution, OrderLinks  # msgspec reads them
from tradeproxy.book.lots import ZERO
from tradeproxy.wire.amount import parse_amount
from tradeproxy.wire.event import is_time

PAGE_RECORDS = 20
"""Orders and fills of a page, at most: one step of the book takes it, in some milliseconds."""

PROGRESS = "import "
"""How the keys of an import's progress begin. The book has others in the same table."""

MAX_PAGE = 256 * 1024
"""Bytes of a page, compressed or not. A record has at most 8 KB."""


class ImportPage(Struct, frozen=True):
    """What one step of an import brings."""

    orders: tuple[OrderLinks, ...] = ()
    fills: tuple[Execution, ...] = ()
    progress: dict[str, str] = {}
    """How far the import is with it, by keys that begin with PROGRESS."""

    def encode(self) -> bytes:
        """Return the page for other nodes: about 100 bytes a fill, 50 an order."""
        return zlib.compress(encode(self), 1)

    @classmethod
    def decode(cls, data: bytes) -> ImportPage:
        """Return what `encode` made. Raises ValueError for anything else."""
        unpacking = zlib.decompressobj()
        try:
            page = _PAGE.decode(unpacking.decompress(data, MAX_PAGE))
        except (MsgspecError, zlib.error, RecursionError):
            page = None
        if page is None or not unpacking.eof or not _is_page(page):
            raise ValueError("it is no page of an import")
        return page


_PAGE = Decoder(ImportPage)


def _is_page(page: ImportPage) -> bool:
    return all(map(_is_sane, page.fills)) and all(key.startswith(PROGRESS) for key in page.progress)


def _is_sane(fill: Execution) -> bool:
    """Whether a fill has amounts and a time as Alpaca's have. Any others would end the book."""
    amounts = (fill.qty, fill.price, fill.multiplier, fill.fee, fill.position or ZERO)
    return is_time(fill.time) and all(parse_amount(str(each)) is not None for each in amounts)


class ImportState(Enum):
    """How far an import is."""

    IDLE = "idle"
    """It was not started since the proxy was."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ImportProgress(Struct, frozen=True):
    """The progress of an import since the proxy was started."""

    state: ImportState
    orders: int
    """Orders that were read."""
    fills: int
    """Fills that were read."""
    new: int
    """Those of them that the book did not have."""
    fraction: float
    """From 0 to 1, by the times of what was read."""
    reason: str = ""
    """Why it failed."""


class Importer(Protocol):
    """Imports the fills of one account. One import runs at a time."""

    @property
    def progress(self) -> ImportProgress:
        """How far it is."""

    def start(self) -> None:
        """Begin an import, or continue one that was interrupted. While one runs, do nothing."""
