"""The commands about strategies as a user runs them: the table, assignments and the import."""

from __future__ import annotations

import json

from tests.book.strategy_frames import order
from tests.support.sockets import SocketTestCase


class StrategyCommandTests(SocketTestCase):
    """A proxy with one fill of the strategy `alpha`."""

    async def begin(self, **environment: str) -> None:
        """Have a proxy that has the fill."""
        alpaca = await self.simulate()
        await self.proxy(**environment)
        await alpaca.when_listening()
        client = await self.subscribe()
        data = {"event": "fill", "execution_id": "e1", "qty": "5", "price": "2"}
        alpaca.emit_stamped(data | {"order": order("order-1", "alpha-1", filled_qty="5")})
        await client.has(1)

    async def read_names(self) -> list[str]:
        """Return the strategies in the document of the command."""
        status, output = await self.run_command("strategies", "--json")
        self.assertEqual(status, 0, output)
        names = [each["name"] for each in json.loads(output)["strategies"]]
        # The simulator has no position, so the opposite one is of no strategy.
        return [name for name in names if name != "(none)"]

    async def test_order_is_assigned_and_the_assignment_undone(self) -> None:
        """The table follows at once."""
        await self.begin()
        status, output = await self.run_command("strategies")
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"\nalpha .*\n +AAPL +5 ")
        status, output = await self.run_command("strategies", "assign", "order-1", "beta")
        self.assertEqual((status, output), (0, "order order-1: beta\n"))
        self.assertEqual(await self.read_names(), ["beta"])
        status, output = await self.run_command("strategies", "assign", "order-1", "")
        self.assertEqual((status, output), (0, "order order-1: alpha\n"))
        self.assertEqual(await self.read_names(), ["alpha"])

    async def test_wrong_input_is_one_line(self) -> None:
        """An order that is unknown, and a name that no strategy can have."""
        await self.begin()
        for order_id, name, problem in (
            ("order-2", "beta", "the order has no fill here"),
            ("order-1", "x" * 129, "1 to 128 printable characters"),
            ("order-1", "(other)", "1 to 128 printable characters"),
        ):
            status, output = await self.run_command("strategies", "assign", order_id, name)
            self.assertEqual((status, output.count("\n")), (2, 1), output)
            self.assertIn(problem, output)
        self.assertEqual(await self.read_names(), ["alpha"])

    async def test_import_reports_how_many_fills_there_were(self) -> None:
        """The stream has brought the one that Alpaca lists."""
        await self.begin()
        status, output = await self.run_command("book", "import")
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"1 fills, 0 of them new\n\Z")

    async def test_commands_without_a_book_say_so(self) -> None:
        """PROXY_BOOK=0, and no proxy at all."""
        await self.begin(PROXY_BOOK="0")
        commands = (("strategies",), ("strategies", "assign", "1", "x"), ("book", "import"))
        for arguments in commands:
            status, output = await self.run_command(*arguments)
            self.assertEqual((status, output.count("\n")), (2, 1), output)
            self.assertIn("PROXY_BOOK=0", output)
        self.port = 1
        for arguments in commands:
            status, output = await self.run_command(*arguments)
            self.assertEqual((status, output.count("\n")), (2, 1), output)
            self.assertIn("no proxy at", output)
