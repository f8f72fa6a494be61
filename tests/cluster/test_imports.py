"""Imports of old fills with several nodes on one log in a real Redis."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.book.strategy_frames import order, report_fill
from tests.book.strategy_frames import read as read_frame
from tests.cluster.books_case import BooksCase
from tests.support.journals import BASE_URL
from tests.support.nodes import Member
from tests.support.ticks import Ticks
from tradeproxy.book.book import Book
from tradeproxy.book.importing import MAX_PAGE, ImportPage
from tradeproxy.cluster import import_log
from tradeproxy.journal.base import NotLeadingError, UnreadableError

NAN = Decimal("NaN")
KEY = "tradeproxy:{paper}:imports"


def make_page(*names: str) -> ImportPage:
    """Return a page with a fill of each strategy; the last one is how far the import is."""
    events = [
        read_frame(report_fill(order(f"old {name}", f"{name}-1"), f"x {name}", "1", "2"))
        for name in names
    ]
    return ImportPage(
        tuple(each for event in events for each in event.orders),
        tuple(each for event in events for each in event.executions),
        {"import place": names[-1]},
    )


class ImportsCase(BooksCase):
    """Nodes that know their account."""

    def setUp(self) -> None:
        super().setUp()
        self.leader.account.identify("our account")
        self.advance(1)

    def append(self, member: Member, page: ImportPage | bytes) -> Deferred[None]:
        """Append a page on a node."""
        log = member.journal.import_log
        assert log is not None
        data = page if isinstance(page, bytes) else page.encode()
        return Deferred.fromCoroutine(log.append(data))

    def share(self, member: Member, *names: str) -> None:
        """Append a page with fills of strategies, and give the nodes a second."""
        self.successResultOf(self.append(member, make_page(*names)))
        self.advance(1)

    def check(self, *names: str, place: str) -> None:
        """Each node must have these strategies, once, besides that of the log."""
        for member in self.members:
            found = self.quantities(member)
            found.pop("alpha", None)  # a node that starts after a loss has no such event
            self.assertEqual(found, dict.fromkeys(names, "1"))
            self.assertEqual(self.strategies(member).get_progress("import place"), place)


class SharedImportTests(ImportsCase):
    """Each node has what the leader imports."""

    def test_running_nodes_have_a_page_within_a_second(self) -> None:
        """And a node that starts later has all of them."""
        self.share(self.leader, "a", "b")
        self.check("a", "b", place="b")
        self.share(self.leader, "c")
        self.start_with_book()
        self.check("a", "b", "c", place="c")

    def test_import_survives_a_trim_and_a_change_of_leader(self) -> None:
        """The next leader continues it; a list of its own would begin it again."""
        self.share(self.leader, "a")
        self.publish(self.leader, "2")
        self.clock.advance(8 * 86_400)
        self.advance(15)
        self.assertEqual(self.leader.journal.first, self.leader.journal.last)
        self.end(self.leader)
        self.assertTrue(self.node.is_leader)
        self.share(self.node, "b")
        third = self.start_with_book()
        found = self.quantities(third)
        self.assertEqual((found["a"], found["b"]), ("1", "1"))
        self.assertEqual(self.redis.execute("LLEN", KEY), 3)

    def test_leader_appends_what_redis_has_lost(self) -> None:
        """A lost end and an empty Redis alike: a node that starts then has all pages."""
        self.share(self.leader, "a")
        dump = self.redis.dump()
        for names in ("bcd", "efg", "hij"):
            self.share(self.leader, *names)
        for kept in (dump, {}):
            self.restart_redis(kept)
            self.advance(5)
            self.assertEqual(self.redis.execute("LLEN", KEY), 5)
        self.start_with_book()
        self.check(*"abcdefghij", place="j")
        self.share(self.leader, "k")
        self.check(*"abcdefghijk", place="k")

    def test_next_leader_appends_what_redis_has_lost(self) -> None:
        """A follower keeps its copy meanwhile."""
        self.share(self.leader, "a")
        dump = self.redis.dump()
        self.share(self.leader, "b")
        self.books[self.leader].stop()
        self.leader.kill()
        self.leader.stop()
        self.members.remove(self.leader)
        self.restart_redis(dump)
        self.assertEqual(self.redis.execute("LLEN", KEY), 2)
        self.advance(15)
        self.assertTrue(self.node.is_leader)
        self.assertEqual(self.redis.execute("LLEN", KEY), 3)
        self.start_with_book()
        self.check("a", "b", place="b")

    def test_copy_of_lost_pages_is_replaced_once_the_list_goes_on_without_them(self) -> None:
        """Its import was at another place then. The fills of lost pages stay: they are right."""
        self.share(self.leader, "a")
        dump = self.redis.dump()
        self.share(self.leader, "b")
        self.node.read_client.cut()
        self.node.command_client.cut()
        self.redis.roll_back(dump)
        self.end(self.leader)
        third = self.start_with_book()
        self.assertTrue(third.is_leader)
        self.share(third, "c")
        self.node.restore()
        self.advance(3)
        self.assertEqual(self.strategies(self.node).get_progress("import place"), "c")
        self.assertEqual(self.quantities(self.node), dict.fromkeys(["alpha", *"abc"], "1"))
        self.assertEqual(self.quantities(third), dict.fromkeys(["alpha", *"ac"], "1"))

    def test_only_the_leader_appends(self) -> None:
        """The lease's token fences a node that does not know yet that its term is over."""
        self.failureResultOf(self.append(self.node, make_page("a")), NotLeadingError)
        self.redis.execute("HSET", "tradeproxy:{paper}:lease", "token", "other")
        self.failureResultOf(self.append(self.leader, make_page("a")), NotLeadingError)
        self.assertEqual(self.redis.execute("LLEN", KEY), 0)

    def test_lost_reply_leaves_the_list_usable(self) -> None:
        """The page is there, and appended again: its fills count once."""
        self.leader.command_client.lose_reply(2)
        self.failureResultOf(self.append(self.leader, make_page("a")), UnreadableError)
        self.advance(2)
        self.share(self.leader, "a")
        self.share(self.leader, "b")
        self.check("a", "b", place="b")

    def test_pages_of_another_account_are_not_taken(self) -> None:
        """They stay until the next import, which begins a list of its own."""
        self.share(self.leader, "a")
        self.leader.account.identify("another account")
        self.advance(3)
        self.publish(self.leader, "1")
        for member in self.members:
            self.assertEqual(self.quantities(member), {"alpha": "1"})
        self.share(self.leader, "b")
        self.check("b", place="b")
        self.assertEqual(self.redis.execute("LLEN", KEY), 2)

    def test_pages_of_another_base_url_are_not_taken(self) -> None:
        """Paper and live trading may have one account's name here."""
        self.share(self.leader, "a")
        for member in (self.node, self.leader):
            self.books[member].stop()
            member.stop()
        self.advance(15)
        other = self.make_node(base_url="https://api.alpaca.markets")
        other.start()
        self.members[:] = [other]
        self.advance(10)
        log = other.journal.import_log
        assert log is not None
        self.assertTrue(other.is_leader)
        self.assertEqual((log.count, self.redis.execute("LLEN", KEY)), (0, 2))

    def test_foreign_elements_are_ignored(self) -> None:
        """Anyone with the password can write them. The pages behind them count."""
        self.share(self.leader, "a")
        page = make_page("z")
        [fill] = page.fills
        nan = msgspec.structs.replace(page, fills=(msgspec.structs.replace(fill, qty=NAN),))
        bomb = zlib.compress(b"[" * 10_000_000)
        key = msgspec.structs.replace(page, progress={"opened": "x"})
        for element in (b"", b"garbage", page.encode()[:-3], nan.encode(), key.encode(), bomb):
            self.redis.execute("RPUSH", KEY, element)
        self.advance(1)
        self.share(self.leader, "b")
        self.check("a", "b", place="b")
        self.redis.execute("DEL", KEY)
        self.redis.execute("RPUSH", KEY, b"no header", make_page("y").encode())
        self.advance(4)
        self.check("a", "b", place="b")
        self.share(self.leader, "c")
        self.check("a", "b", "c", place="c")


class ForeignListTests(ImportsCase):
    """Anyone with Redis' password can write any list there."""

    def test_bad_pages_are_logged_once(self) -> None:
        """Each one had a line: 253,000 of them."""
        self.share(self.leader, "a")
        with capturedLogs() as logs:
            self.redis.execute("RPUSH", KEY, *[b"garbage"] * 30)
            self.advance(2)
            self.redis.execute("RPUSH", KEY, *[b"garbage"] * 30)
            self.advance(2)
        lines = [line for event in logs if "of the imports" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), len(self.members))
        self.share(self.leader, "b")
        self.check("a", "b", place="b")

    def test_deeply_nested_page_is_ignored(self) -> None:
        """It raises RecursionError, which no one caught: the book stood still."""
        self.share(self.leader, "a")
        nested = b'{"x":' * 20_000 + b"1" + b"}" * 20_000
        self.redis.execute("RPUSH", KEY, zlib.compress(nested))
        self.advance(1)
        self.share(self.leader, "b")
        self.check("a", "b", place="b")

    def test_elements_larger_than_a_page_are_not_read(self) -> None:
        """A reply with fifty of them was too large: no node got the pages behind them."""
        self.share(self.leader, "a")
        for _ in range(60):
            self.redis.execute("RPUSH", KEY, b"x" * (2 * MAX_PAGE))
        self.advance(2)
        self.share(self.leader, "b")
        self.redis.execute("RPUSH", KEY, b"x" * MAX_PAGE, b"x" * (MAX_PAGE + 1))
        self.advance(2)
        self.check("a", "b", place="b")
        log = self.leader.journal.import_log
        assert log is not None
        sizes = [len(log.read(number)) for number in range(log.count)]
        self.assertEqual(sizes[1:61], [0] * 60)
        self.assertEqual(sizes[-2:], [MAX_PAGE, 0])

    def test_list_without_room_is_not_kept(self) -> None:
        """The copy grew with the list: 2,500 elements of 100 KB took 240 MB of every node.

        An import fails with the reason. The list that Redis has after a loss is copied anew.
        """
        self.share(self.leader, "a")
        self.patch(import_log, "MAX_COPY", 100_000)
        with capturedLogs() as logs:
            self.redis.execute("RPUSH", KEY, *[b"x" * 30_000] * 10)
            self.advance(2)
        lines = [line for event in logs if "too large" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), len(self.members))
        for member in self.members:
            log = member.journal.import_log
            assert log is not None
            self.assertLess(sum(len(log.read(number)) for number in range(log.count)), 100_000)
        self.patch(import_log, "MAX_COPY", 60_000)
        failure = self.failureResultOf(self.append(self.leader, make_page("b")), UnreadableError)
        self.assertIn("no room", str(failure.value))
        self.check("a", place="a")
        self.redis.execute("LTRIM", KEY, 0, 1)
        self.advance(3)
        self.check("a", place="a")

    def test_lease_does_not_need_a_list(self) -> None:
        """With a text in its place no lease was acquired or renewed: all nodes left Alpaca."""
        self.share(self.leader, "a")
        self.books[self.leader].stop()
        self.leader.kill()
        self.leader.stop()
        self.members.remove(self.leader)
        with capturedLogs() as logs:
            self.redis.execute("SET", KEY, "x")
            self.advance(15)
        lines = [line for event in logs if "there is no list" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertTrue(self.node.is_leader)
        self.share(self.node, "b")
        self.redis.execute("SET", KEY, "x")
        self.advance(3)
        self.start_with_book()
        self.check("a", "b", place="b")


class UnknownAccountTests(BooksCase):
    """The list of Redis may be another account's until the node knows its own."""

    def test_pages_are_taken_once_the_account_is_known(self) -> None:
        """They were taken before, and those of another account stayed in the book."""
        pages = [make_page(name).encode() for name in "ab"]
        self.redis.execute("RPUSH", KEY, json.dumps([BASE_URL, "ours", "1"]), *pages)
        self.advance(2)
        for member in self.members:
            self.assertEqual(self.quantities(member), {"alpha": "1"})
        self.leader.account.identify("ours")
        self.advance(2)
        for member in self.members:
            self.assertEqual(self.quantities(member), {"alpha": "1", "a": "1", "b": "1"})

    def test_pages_of_another_account_are_never_taken(self) -> None:
        """Nor are they appended to."""
        page = make_page("a").encode()
        self.redis.execute("RPUSH", KEY, json.dumps([BASE_URL, "theirs", "1"]), page)
        self.advance(2)
        self.leader.account.identify("ours")
        self.advance(2)
        for member in self.members:
            self.assertEqual(self.quantities(member), {"alpha": "1"})

    def test_book_is_not_current_before_the_first_check_of_the_lease(self) -> None:
        """Only then a node knows how many pages there are. It showed holdings without them."""
        self.leader.account.identify("ours")
        self.advance(1)
        log = self.leader.journal.import_log
        assert log is not None
        self.successResultOf(Deferred.fromCoroutine(log.append(make_page("a").encode())))
        late = self.start_follower()
        book = self.books[late] = Book(late.account, self.clock, Ticks())
        book.start()
        self.addCleanup(book.stop)
        self.advance(3)
        self.assertFalse(self.strategies(late).is_current())
        late.leadership.startService()
        self.advance(2)
        self.assertEqual(self.quantities(late), {"alpha": "1", "a": "1"})


class ImportWithoutEventsTests(ImportsCase):
    """The same before the first event."""

    def publish(self, member: Member, order_id: str) -> None:
        """Receive nothing."""

    def test_another_account_begins_without_imported_fills(self) -> None:
        """They stayed: only events recorded whose the fills are.

        A node that had started before the log did not know the account either.
        """
        self.share(self.leader, "a")
        self.advance(2)  # the books are written
        self.leader.account.identify("another account")
        self.advance(3)
        for member in self.members:
            self.assertEqual(self.quantities(member), {})
