"""Journals in Redis, so that tests of the Journal interface run against Redis too."""

from __future__ import annotations

from functools import cached_property
from itertools import count
from typing import Any

from tests.support.journals import BASE_URL, DAY, JournalCase, dates_of
from tests.support.redislog import SyncRedis, done
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.journal.base import Journal, UnreadableError

UNLIMITED_LEASE = 10**12
"""The duration of a lease that outlasts every test, in milliseconds."""

_node_numbers = count(1)


def leading_journal(redis: SyncRedis, name: str = "paper", **options: Any) -> RedisJournal:
    """Return the journal of a new node that has loaded the log and leads without a time limit.

    It takes the lease from the node that has it.
    """
    clients = redis.make_client(), redis.make_client()
    dates = options.pop("dates", None) or dates_of(redis.clock)
    defaults = {"base_url": BASE_URL, "max_age": 7 * DAY, "max_events": 1_000_000}
    journal = RedisJournal(
        name,
        clients,
        f"node {next(_node_numbers)}",
        redis.clock,
        dates,
        **{**defaults, **options},
    )
    redis.execute("DEL", f"tradeproxy:{{{name}}}:lease")
    clients[0].open()
    state = done(journal.redis_log.query_lease(UNLIMITED_LEASE, acquire=True))
    if state.epoch is None:
        # The log is empty. Leading before opening avoids the wait for a first read.
        done(journal.lead(state))
        journal.open()
    else:
        journal.open()
        done(journal.lead(state))
    assert journal.is_loaded
    return journal


class RedisJournalCase(JournalCase):
    """Runs the tests of a JournalCase with a journal in Redis whose node leads."""

    @cached_property
    def redis(self) -> SyncRedis:
        """The server, empty for this test."""
        return SyncRedis(self.clock)

    def open(self, **options: Any) -> RedisJournal:
        """Return the journal of a new node, which has loaded the log and leads."""
        journal = leading_journal(self.redis, **options)
        self.addCleanup(journal.close)
        return journal

    def reopen(self, journal: Journal, **options: Any) -> RedisJournal:
        journal.close()
        return self.open(**options)

    def observe_log_end(self, journal: Journal) -> None:
        """Let the node query the end of the log, as it does twice a second."""
        assert isinstance(journal, RedisJournal)
        asked = journal.replica.missing.asked
        journal.observe_lease(
            done(journal.redis_log.query_lease(UNLIMITED_LEASE, acquire=True)), asked, journal.last
        )

    def find(self, journal: Journal, identity: str) -> int | None:
        try:
            return journal.find(identity)
        except UnreadableError:
            # Until the node has queried the end of the log, the event may be in an unread row.
            self.observe_log_end(journal)
            return journal.find(identity)
