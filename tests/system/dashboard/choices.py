"""What the reader of the dashboard chooses: settings, filters, a download."""

from __future__ import annotations

import csv
from io import StringIO

from tests.system.dashboard.accessibility import emit
from tests.system.dashboard.browser import Browser
from tests.system.dashboard.watching import LINK, ROWS, DashboardTestCase, column
from tradeproxy.simulator.simulator import Simulator

SETTINGS = "button[popovertarget=settings]"
AT = "2026-07-24T18:42:50.132734Z"

RECORDER = """
globalThis.recorded = [];
globalThis.Notification = class {
  static requestPermission = async () => "granted";
  constructor(title) { recorded.push(title); }
};
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (time) {
  recorded.push("sound");
  start.call(this, time);
};
"""

NO_STORAGE = """
for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(globalThis, name, {
    get() {
      throw new DOMException("access is denied for this document", "SecurityError");
    },
  });
}
"""


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

    async def test_theme_is_chosen_and_kept(self) -> None:
        """Also on the help page; without a choice it is that of the system."""
        _, browser = await self.open_with()
        ground = "getComputedStyle(document.body).backgroundColor"
        light, dark = "rgb(244, 246, 249)", "rgb(14, 18, 24)"
        size = {"width": 1360, "height": 850}
        for scheme, color in (("dark", dark), ("light", light)):
            await browser.do("look", **size, scheme=scheme)
            self.assertEqual(await browser.do("evaluate", text=ground), color)
        await browser.do("click", at=SETTINGS)
        await browser.do("choose", at="[name=theme]", text="dark")
        self.assertEqual(await browser.do("evaluate", text=ground), dark)
        for path in ("/", "/dashboard/help.html"):
            await browser.do("open", url=f"http://localhost:{self.port}{path}")
            await browser.until(f"{ground} === '{dark}'")
        await self.assert_console_is_empty(browser)

    async def test_page_works_without_storage(self) -> None:
        """Where the browser blocks site data, nothing was shown at all."""
        _, browser = await self.open_with({"symbol": "SPY"})
        await browser.do("prepare", text=NO_STORAGE)
        await browser.do("open", url=f"http://localhost:{self.port}/")
        await browser.until(f"{LINK} === 'connected' && {ROWS}.length === 1")
        await browser.do("click", at=SETTINGS)
        await browser.do("choose", at="[name=zone]", text="UTC")
        self.assertEqual(await browser.text("#time-title"), "Time (UTC)")
        await self.assert_console_is_empty(browser)

    async def test_fill_is_notified_and_heard(self) -> None:
        """The browser's own notification and audio, of which only the calls are recorded."""
        alpaca, browser = await self.open_with({"symbol": "OLD"})
        await browser.until(f"{ROWS}.length === 1")
        await browser.do("evaluate", text=RECORDER)
        await browser.do("click", at=SETTINGS)
        await browser.do("click", at="[name=sound]")
        await browser.do("click", at="[name=notification]")
        emit(alpaca, "new", symbol="TSLA", id="new")
        emit(alpaca, "fill", symbol="TSLA", id="fill")
        await browser.until("recorded.length === 3")
        self.assertEqual(
            await browser.do("evaluate", text="recorded"),
            ["sound", "sound", "paper: fill buy 1 TSLA at 12.5"],
        )
        await self.assert_console_is_empty(browser)

    async def test_download_has_the_shown_events(self) -> None:
        """Those that fit the filter, the newest first."""
        _, browser = await self.open_with({"symbol": "SPY"}, {"symbol": "TSLA"}, {"symbol": "SPY"})
        await browser.until(f"{ROWS}.length === 3")
        await browser.do("fill", at="[name=symbol]", text="SPY")
        name, text = await browser.do("download", at="#download")
        self.assertRegex(name, r"trade-updates-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.csv")
        ids = await browser.do("evaluate", text=f"{ROWS}.map((row) => row.entry.id)")
        rows = list(csv.DictReader(StringIO(text, newline="")))
        self.assertEqual([row["event_id"] for row in rows], ids)
        self.assertEqual([row["symbol"] for row in rows], ["SPY", "SPY"])
        await self.assert_console_is_empty(browser)


class FilterTests(ChoicesTestCase):
    """The filters of the feed."""

    ORDERS = (
        {"symbol": "SPY", "client_order_id": "pairs-1"},
        {"symbol": "SPY260116C00650000", "client_order_id": "hedge-1"},
        {"symbol": "BTC/USD", "client_order_id": "PAIRS-2"},
    )

    async def test_part_of_symbol_or_order_is_found(self) -> None:
        """Only the beginning was: the expiry of an option, or `/USD`, found nothing."""
        _, browser = await self.open_with(*self.ORDERS)
        await browser.until(f"{ROWS}.length === 3")
        spy, option, btc = (order["symbol"] for order in self.ORDERS)
        for name, text, found in (
            *(("symbol", "260116", [option]), ("symbol", "usd", [btc])),
            *(("symbol", "btcusd", [btc]), ("symbol", "/usd, 65000", [btc, option])),
            *(("symbol", "spy", [option, spy]), ("order", "pairs", [btc, spy])),
            *(("order", "-1", [option, spy]), ("order", "x", [])),
        ):
            await browser.do("fill", at=f"[name={name}]", text=text)
            shown = await browser.do("evaluate", text=column("symbol"))
            self.assertEqual(shown, found, text)
            await browser.do("fill", at=f"[name={name}]", text="")

    async def test_filters_are_in_url_and_clear_removes_them(self) -> None:
        """A link shows the same rows to somebody else; a reload keeps them."""
        _, browser = await self.open_with(
            *self.ORDERS, path="/dashboard?symbol=spy&order=hedge&other=1"
        )
        await browser.until(f"{ROWS}.length === 1")
        self.assertEqual(await browser.do("evaluate", text=column("order")), ["hedge-1"])
        await browser.do("fill", at="[name=order]", text="pairs & co")
        await browser.do("choose", at="[name=event]", text="fill")
        await browser.until(
            "location.search === '?symbol=spy&order=pairs+%26+co&other=1&event=fill'"
        )
        await browser.do("open", url=await browser.do("evaluate", text="location.href"))
        await browser.until("document.querySelector('#nothing').textContent.includes('filter')")
        values = "[...document.querySelector('#filters')].map((field) => field.value).join('|')"
        self.assertEqual(await browser.do("evaluate", text=values), "|spy|fill|pairs & co|")
        await browser.do("click", at="#clear")
        self.assertEqual(len(await browser.do("evaluate", text=column("order"))), 3)
        focus = await browser.do("evaluate", text="document.activeElement.name")
        self.assertEqual(focus, "symbol")
        await browser.until("location.search === '?other=1'")
        self.assertTrue(
            await browser.do("evaluate", text="document.querySelector('#clear').hidden")
        )
        await self.assert_console_is_empty(browser)

    async def test_unknown_account_and_kind_are_removed_from_url(self) -> None:
        """With `?event=fil` the list was empty, and looked as if nothing had happened."""
        alpaca, browser = await self.open_with(
            *self.ORDERS, path="/?account=gone&event=fil&symbol=spy"
        )
        await browser.until(f"{ROWS}.length === 2 && location.search === '?symbol=spy'")
        values = "[...document.querySelector('#filters')].map((field) => field.value).join('|')"
        self.assertEqual(await browser.do("evaluate", text=values), "|spy|||")
        self.assertTrue(
            await browser.do("evaluate", text="document.querySelector('[name=account]').hidden")
        )
        emit(alpaca, "a_new_kind")
        await browser.until(f"{ROWS}.length === 3")
        kinds = "[...document.querySelectorAll('[name=event] option')].map((o) => o.value)"
        offered = await browser.do("evaluate", text=kinds)
        self.assertEqual((offered.count("a_new_kind"), offered.count("fil")), (1, 0))
        await self.assert_console_is_empty(browser)


class OrderTests(DashboardTestCase):
    """The order of the list."""

    async def test_events_of_two_accounts_are_newest_first(self) -> None:
        """The replays were stacked: one account's newest event was below the other's oldest."""
        accounts: dict[str, str] = {}
        alpacas = []
        for name in ("", "LIVE_"):
            alpacas.append(await self.simulate())
            accounts |= {
                f"ALPACA_{name}API_KEY": f"PK{name}",
                f"ALPACA_{name}SECRET_KEY": "test-secret",
                f"ALPACA_{name}URL": f"http://127.0.0.1:{self.alpaca_port}",
            }
        await self.proxy(**accounts)
        for alpaca in alpacas:
            await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        for tenths in (*range(0, 70, 10), 31):
            at = f"2026-07-24T18:42:{tenths / 10:04.1f}Z"
            emit_at(alpacas[tenths // 10 % 2], at)
        await browser.until(f"{ROWS}.length === 8")
        order = (60, 50, 40, 31, 30, 20, 10, 0)
        expected = [f"2026-07-24T18:42:{tenths / 10:04.1f}Z" for tenths in order]
        times = f"{ROWS}.map((row) => row.entry.at)"
        self.assertEqual(await browser.do("evaluate", text=times), expected)
        await browser.do("open", url=f"http://localhost:{self.port}/")
        await browser.until(f"{ROWS}.length === 8")
        self.assertEqual(await browser.do("evaluate", text=times), expected)
        await browser.do("press", key="Tab")
        await browser.do("evaluate", text=f"{ROWS}[4].click()")
        emit_at(alpacas[0], "2026-07-24T18:42:02.500Z")
        await browser.until(f"{ROWS}.length === 9")
        self.assertEqual(
            await browser.do("evaluate", text=times),
            [*expected[:5], "2026-07-24T18:42:02.500Z", *expected[5:]],
        )
        follows = f"{ROWS}[4].nextElementSibling.className"
        self.assertEqual(await browser.do("evaluate", text=follows), "details")
        # The proxy has no order of such an id.
        await self.assert_console_is_empty(browser, "404 (Not Found)")

    async def test_status_column_is_shown_only_with_a_status(self) -> None:
        """It repeated the event in no row, and was an empty column."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected'")
        emit(alpaca, "new")
        await browser.until(f"{ROWS}.length === 1")
        width = "document.querySelector('th.status').offsetWidth"
        self.assertEqual(await browser.do("evaluate", text=width), 0)
        alpaca.emit({"event": "new", "order": {"id": "2", "symbol": "SPY", "status": "held"}})
        await browser.until(f"{ROWS}.length === 2")
        self.assertGreater(await browser.do("evaluate", text=width), 50)


def emit_at(alpaca: Simulator, at: str) -> None:
    """Emit an event of that time."""
    alpaca.emit({"event": "new", "at": at, "order": {"id": at, "symbol": "SPY"}})
