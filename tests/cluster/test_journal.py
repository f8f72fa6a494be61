"""Tests for the behaviour of every Journal, with a journal in Redis whose node leads."""

from __future__ import annotations

from tests.journal import test_journal, test_trimming
from tests.support.redisjournals import RedisJournalCase


class AppendInRedisTests(RedisJournalCase, test_journal.AppendTests):
    """New events get their rows once they are read back."""


class JournalReadInRedisTests(RedisJournalCase, test_journal.JournalReadTests):
    """A row may exist that this node has not read yet."""


class JournalOrderInRedisTests(RedisJournalCase, test_journal.JournalOrderTests):
    """Orders are looked up in the replica and in the outbox."""


class JournalRestartInRedisTests(RedisJournalCase, test_journal.JournalRestartTests):
    """Another node leads after the restart."""


class JournalEpochInRedisTests(RedisJournalCase, test_journal.JournalEpochTests):
    """The log is emptied when an epoch begins."""


class TrimmingInRedisTests(RedisJournalCase, test_trimming.TrimmingTests):
    """The leader trims the log that all nodes share."""
