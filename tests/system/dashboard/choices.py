"""What the reader of the dashboard chooses: settings, filters, a download."""

from __future__ import annotations

from tests.system.dashboard.accessibility import emit
from tests.system.dashboard.browser import Browser
from tests.system.dashboard.watching import LINK, ROWS, DashboardTestCase, column
from tradeproxy.simulator.simulator import Simulator

SETTINGS = "button[popovertarget=settings]"
AT = "2026-07-24T18:42:50.132734Z"


class ChoicesTestCase(DashboardTestCase):
    """A page with some events."""

    async def open_with(
        self, *orders: dict[str, str], path: str = "/"
    ) -> tuple[Simulator, Browser]:
        """Start the proxy, emit a fill of each order, and open the dashboard."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard(path)
        await browser.until(f"{LINK} === 'connected'")
        for number, order in enumerate(orders):
            emit(alpaca, "fill", **{"id": f"order-{number}", **order})
        return alpaca, browser


class SettingsTests(ChoicesTestCase):
    """The settings stay in this browser."""

    async def test_time_zone_is_chosen_and_kept(self) -> None:
        """A trader compares with the exchange's clock, an operator with the log's."""
        alpaca, browser = await self.open_with()
        alpaca.emit({"event": "new", "at": AT, "order": {"id": "1", "symbol": "SPY"}})
        await browser.until(f"{ROWS}.length === 1")
        for zone, time, name in (
            ("America/New_York", "07-24 14:42:50", r"Time \(E[DS]T\)"),
            ("UTC", "07-24 18:42:50", r"Time \(UTC\)"),
        ):
            await browser.do("click", at=SETTINGS)
            await browser.do("choose", at="[name=zone]", text=zone)
            await browser.do("press", key="Escape")
            self.assertEqual(await browser.do("evaluate", text=column("time")), [time])
            self.assertRegex(await browser.text("#time-title"), name)
        await browser.do("open", url=f"http://localhost:{self.port}/")
        await browser.until(f"{ROWS}.length === 1")
        self.assertEqual(await browser.do("evaluate", text=column("time")), ["07-24 18:42:50"])
        self.assertEqual(await browser.text("#time-title"), "Time (UTC)")
        await self.assert_console_is_empty(browser)
