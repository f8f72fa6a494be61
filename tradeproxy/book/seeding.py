"""What Alpaca's answers change in a book, and whether anything is missing between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tradeproxy.book.builder import WRITE_EVERY, BookBuilder
from tradeproxy.book.fields import normalize_symbol
from tradeproxy.book.strategies import Held


@dataclass(frozen=True, slots=True)
class Seed:
    """A moment at which Alpaca is asked for orders and positions."""

    seq: int
    """The last row of the log that was applied then."""
    time: int
    """Alpaca's time (microseconds since 1970)."""
    gaps: int
    build: int


class Seeding:
    """Takes the answers for one book. recovery.book_seed calls it."""

    def __init__(self, builder: BookBuilder) -> None:
        self._builder = builder
        self._seeded = 0  # how many gaps the last answers have filled
        self.corrected = 0
        """Positions that were wrong in two comparisons in a row."""

    @property
    def is_complete(self) -> bool:
        """See Book.is_complete."""
        builder = self._builder
        if builder.state.orders.has_overflowed:
            return False
        return self._seeded == builder.gaps and builder.is_current

    def record_gap(self) -> None:
        """Record that something may be missing until the next answer."""
        self._builder.gaps += 1

    def begin(self) -> Seed | None:
        """Return what the answers to requests that are sent from now on are compared with.

        Returns None while the book is built, or behind the log. Raises UnreadableError.
        """
        builder = self._builder
        builder.account.flush()
        if not builder.catch_up():
            return None
        time = builder.account.dates.now_microseconds()
        return Seed(builder.state.seq, time, builder.gaps, builder.builds)

    def take_orders(self, seed: Seed, documents: Iterable[bytes]) -> None:
        """Take order objects of an answer, with their legs: some dozens in a turn."""
        if self._is_valid(seed):
            self._builder.state.seed_orders(documents, seed.seq)
            self._builder.writer.write()

    def take_positions(
        self, seed: Seed, documents: Iterable[tuple[str, bytes]], *, is_whole: bool = True
    ) -> bool:
        """Take the answer about the positions, by symbol.

        Positions that it lacks are closed, unless it is not whole. If nothing was missing before, a
        position that differs is corrected only the second time.
        Returns False, and takes nothing, while the book is behind the log: the rows behind the
        answer must be known, not to be undone by it. Raises UnreadableError.
        """
        builder = self._builder
        if not self._is_valid(seed):
            return True
        if not builder.catch_up():
            return not self._is_valid(seed)
        answer = {normalize_symbol(symbol): document for symbol, document in documents}
        if not is_whole:
            answer = {e.symbol: e.render() for e in builder.state.positions.list_open()} | answer
        self.corrected += builder.state.take_positions(
            answer.items(), seed.seq, seed.time, compare=self.is_complete
        )
        strategies = builder.strategies
        if is_whole and strategies is not None and strategies.wants_openings:
            strategies.take_openings(self._list_held(seed, answer), seed.time)
            builder.plan()
        builder.writer.write()
        builder.plan(WRITE_EVERY)  # there may be more than one write takes
        return True

    def _list_held(self, seed: Seed, answer: Mapping[str, bytes]) -> list[Held]:
        positions = self._builder.state.positions
        found = {each.symbol: each for each in positions.list_open()}
        # One that was closed meanwhile was held at the start.
        found |= {each.symbol: each for each in positions.list_moved(seed.seq)}
        return [
            Held(symbol, each.qty, answer.get(symbol) or each.render(), each.seq > seed.seq)
            for symbol, each in found.items()
        ]

    def finish(self, seed: Seed) -> None:
        """Record that all answers were taken: the book is complete if no gap began meanwhile."""
        if self._is_valid(seed):
            self._seeded = seed.gaps

    def list_open(self, seed: Seed) -> list[str]:
        """Return the ids of the open orders and legs that have not changed since a seed began."""
        if not self._is_valid(seed):
            return []
        entries = self._builder.state.orders.list_all()
        return [entry.id for entry in entries if entry.is_open and entry.last <= seed.seq]

    def _is_valid(self, seed: Seed) -> bool:
        return self._builder.is_current and seed.build == self._builder.builds
