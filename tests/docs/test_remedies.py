"""Tests for the remedies of the dashboard: dashboard/remedies.js in Node.js."""

from __future__ import annotations

import json
import re

from tests.docs.test_operations import read_rows
from tests.support.scripts import ScriptTestCase
from tradeproxy.cluster.leadership import LEADER_UNKNOWN, NO_LEADER
from tradeproxy.cluster.redis_journal import NOT_READ
from tradeproxy.cluster.redis_status import NOT_REACHED
from tradeproxy.cluster.tailer import NO_LOG
from tradeproxy.hub.account import ANOTHER_ACCOUNT, INTERNAL_ERROR
from tradeproxy.recovery.recovery import MUTE
from tradeproxy.upstream.backoff import MAX_CEILING, DisconnectCause
from tradeproxy.upstream.session import LIMIT
from tradeproxy.wire.proxy_status import GapOutcome

LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
JOURNAL = "the journal is not durable: "

REASONS = {
    "not connected yet": "starting",
    "cannot connect: connection refused": "network",
    "cannot connect: the HTTP proxy 10.0.0.1:3128: it answers 407": "http-proxy-refuses",
    "cannot connect: the HTTP proxy 10.0.0.1:3128: connection refused": "http-proxy",
    "no answer to the handshake in time": "network",
    "no answer to the login in time": "network",
    "no answer to listen in time": "network",
    "HTTP 502 at the handshake": "network",
    "connection lost": "stream",
    "closed by Alpaca with code 1000": "stream",
    ANOTHER_ACCOUNT: "stream",
    "login refused: ALPACA_API_KEY is not accepted": "keys",
    "login refused: ALPACA_DESK_A_API_KEY is not accepted": "keys",
    "HTTP 401 at the handshake": "keys",
    "HTTP 403 at the handshake": "keys",
    "HTTP 429 at the handshake: another connection holds this account's stream": "connection",
    LIMIT: "connection",
    "TLS failed: the connection was cut": "tls",
    "HTTP 404 at the handshake": "server",
    "no WebSocket handshake": "server",
    f"{JOURNAL}disk full: /a/paper.sqlite3": "disk",
    f"{JOURNAL}disk full, no inode is free: /a/paper.sqlite3": "inodes",
    f"{JOURNAL}/a/paper.sqlite3: another tradeproxy uses it": "journal",
    f"{JOURNAL}Redis is away: connection refused": "redis",
    f"{JOURNAL}{NOT_REACHED}": "redis",
    LEADER_UNKNOWN: "redis",
    f"{JOURNAL}{NOT_READ}": "reading",
    f"{JOURNAL}{NO_LOG}": "reading",
    f"{JOURNAL}/a/paper.sqlite3: disk I/O error": "storage",
    NO_LEADER: "leader",
    "events may have been missed, and are not found yet": "gap",
    "new events wait for older ones": "waiting",
    MUTE: "mute",
    "the trade log is not written: /a: disk full": "trade-log",
    INTERNAL_ERROR: "internal",
    "something else": None,
}


def strip(markdown: str) -> str:
    """Return the text of a cell. A link in parentheses leads to a note, and is left out."""
    return LINK.sub(r"\1", re.sub(rf" ?\({LINK.pattern}\)", "", markdown)).replace("`", "")


class RemedyTests(ScriptTestCase):
    """Trouble that the dashboard shows has a remedy."""

    def test_remedies_are_those_of_the_docs(self) -> None:
        """The help page of the proxy and docs/operations.md say the same."""
        entries = self.run_script(
            'import { REMEDIES } from "./remedies.js"; const result = REMEDIES;'
        )
        rows = [cells for cells in read_rows("What is wrong") if not cells[0].startswith("---")]
        self.assertEqual(
            [(entry["says"], entry["cause"], entry["remedy"]) for entry in entries],
            [(re.findall(r"`([^`]+)`", says), strip(cause), strip(do)) for says, cause, do in rows],
        )

    def test_wait_after_a_refused_login_is_the_one_of_the_backoff(self) -> None:
        """The page said "once a minute" beside "next attempt in 92 s"."""
        shortest = DisconnectCause.REFUSED.value
        self.assertEqual((shortest, shortest + MAX_CEILING), (60, 120))
        rows = read_rows("What is wrong")
        [remedy] = [cells[2] for cells in rows if "login refused: ALPACA_" in cells[0]]
        self.assertIn("retries after one to two minutes", remedy)

    def test_gap_outcomes_are_in_the_docs(self) -> None:
        """The page has each word on the badge of a gap; "pending" was in no table."""
        rows = [cells[0].strip("`") for cells in read_rows("A gap")]
        self.assertLessEqual({outcome.value for outcome in GapOutcome}, set(rows))

    def test_each_reason_finds_its_remedy(self) -> None:
        """The page gave only the reason; what to do about it was in the docs."""
        found = self.run_script(
            'import { findRemedy } from "./remedies.js";\n'
            f"const reasons = {json.dumps(list(REASONS))};\n"
            "const result = reasons.map((reason) => findRemedy(reason)?.id ?? null);"
        )
        self.assertEqual(dict(zip(REASONS, found, strict=True)), REASONS)
