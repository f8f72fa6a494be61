"""Journals in Redis, whose nodes lead, for the tests of what every journal does."""

from __future__ import annotations

from functools import cached_property
from itertools import count
from typing import Any

from tests.support.journals import BASE_URL, DAY, JournalCase
from tests.support.redislog import NearRedis, done
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.journal.base import Journal, UnreadableError

UNLIMITED_LEASE = 10**12
"""Milliseconds of a lease that no test outlives."""

_starts = count(1)


def leading_journal(redis: NearRedis, name: str = "paper", **options: Any) -> RedisJournal:
    """Return a journal of another process, which has read the log, and has the lease for ever, unlike any."""
    links = redis.link(), redis.link()
    defaults = {"base_url": BASE_URL, "max_age": 7 * DAY, "max_events": 1_000_000}
    journal = RedisJournal(
        name, links, f"node {next(_starts)}", redis.clock, **{**defaults, **options}
    )
    redis.ask("DEL", f"tradeproxy:{{{name}}}:lease")
    links[0].open()
    look = done(journal.redis_log.query_lease(UNLIMITED_LEASE, wanted=True))
    if (
        look.epoch is None
    ):  # a node that has nothing to read need not wait for it, and no time passes
        done(journal.lead(look))
        journal.open()
    else:
        journal.open()
        done(journal.lead(look))
    assert journal.is_loaded
    return journal


class InRedis(JournalCase):
    """The same for a journal in Redis, whose node leads."""

    @cached_property
    def redis(self) -> NearRedis:
        """The server, empty for this test."""
        return NearRedis(self.clock)

    def open(self, **options: Any) -> RedisJournal:
        """Return another process' journal, which has read the log; what had the lease before has stopped."""
        journal = leading_journal(self.redis, **options)
        self.addCleanup(journal.close)
        return journal

    def reopen(self, journal: Journal, **options: Any) -> RedisJournal:
        journal.close()
        return self.open(**options)

    def observe_log_end(self, journal: Journal) -> None:
        """Let a node look where the log ends, as it does twice a second."""
        assert isinstance(journal, RedisJournal)
        asked = journal.missing.asked
        journal.lease_seen(
            done(journal.redis_log.query_lease(UNLIMITED_LEASE, wanted=True)), asked, journal.last
        )

    def find(self, journal: Journal, identity: str) -> int | None:
        try:
            return journal.find(identity)
        except UnreadableError:  # until it has looked, it might yet come
            self.observe_log_end(journal)
            return journal.find(identity)
