"""The accounts on the dashboard in Chromium: trouble with its remedy, and many accounts.

`make dashboard` runs these tests and writes screenshots to build/dashboard/.
"""

from __future__ import annotations

from tests.system.dashboard.watching import LINK, SCREENSHOTS, VERDICT, DashboardTestCase

LIVE = "article[data-account=live]"
ARTICLES = "[...document.querySelectorAll('article')]"
NAMES = f"{ARTICLES}.map((card) => card.dataset.account)"
HEIGHTS = f"{ARTICLES}.map((card) => card.getBoundingClientRect().height)"
CUT = """[...document.querySelectorAll('article :is(h2, .state, dd)')]
  .filter((element) => element.scrollWidth > element.clientWidth)
  .map((element) => element.textContent)"""


class TroubleTests(DashboardTestCase):
    """One account is down."""

    async def test_trouble_has_remedy_next_attempt_and_help(self) -> None:
        """The page gave the bare reason. The help page that the proxy serves explains it."""
        await self.simulate_with_live_down()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected' && document.querySelector('{LIVE}')")
        trouble = f"document.querySelector('{LIVE} .trouble')"
        await browser.until(f"{trouble}.innerText.startsWith('cannot connect: connection refused')")
        await browser.until(
            f"/Next attempt to connect to Alpaca in [1-9][0-9]* s\\./.test({trouble}.innerText)"
        )
        self.assertIn(
            "What to do: nothing; see Alpaca's status page.", await browser.text(f"{LIVE} .trouble")
        )
        self.assertFalse(
            await browser.do(
                "evaluate", text="!document.querySelector('[data-account=paper] .trouble').hidden"
            )
        )
        url = await browser.do("evaluate", text=f"{trouble}.querySelector('a').href")
        self.assertEqual(url, f"http://localhost:{self.port}/dashboard/help.html#network")
        await self.assert_console_is_empty(browser)

        await browser.do("open", url=url)
        await browser.until("document.querySelector('#network.chosen')")
        inside = """(() => {
          const { top, bottom } = document.querySelector('.chosen').getBoundingClientRect();
          return top >= 0 && bottom <= innerHeight;
        })()"""
        await browser.until(inside)
        self.assertIn("Alpaca or the network to it is down", await browser.text(".chosen"))
        await browser.do("size", width=390, height=800)
        self.assertLessEqual(
            await browser.do("evaluate", text="document.documentElement.scrollWidth - innerWidth"),
            0,
        )
        await self.assert_console_is_empty(browser)

    async def test_lost_gap_has_remedy(self) -> None:
        """Nothing can be recovered, so the positions of the bots must be compared."""
        alpaca = await self.simulate()
        await self.proxy(PROXY_RECOVERY="off")
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected' && {VERDICT} === 'all is well'")
        await self.fault(f"http://127.0.0.1:{self.alpaca_port}", kind="reset")
        gap = "document.querySelector('article summary').innerText"
        await browser.until(f"{gap}.includes('recovery is off')")
        self.assertRegex(
            await browser.text("article summary"),
            "(?s)lost.*compare the positions of your bots with Alpaca's$",
        )


class ManyAccountsTests(DashboardTestCase):
    """Six accounts, one of them down."""

    async def test_six_accounts_are_compact_rows_in_order(self) -> None:
        """Six cards took the whole screen, and paper was wherever its name was sorted."""
        accounts: dict[str, str] = {}
        for name in ("ALPHA", "DESK_B", "LIVE", "ZETA", "2"):
            await self.simulate()
            accounts |= {
                f"ALPACA_{name}_API_KEY": f"PK{name}",
                f"ALPACA_{name}_SECRET_KEY": "test-secret",
                f"ALPACA_{name}_URL": f"http://127.0.0.1:{self.alpaca_port}",
            }
        accounts["ALPACA_ZETA_URL"] = "http://127.0.0.1:1"
        alpaca = await self.simulate()
        await self.proxy(**accounts)
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{LINK} === 'connected' && {VERDICT}.startsWith('zeta: ')")
        self.assertEqual(
            await browser.do("evaluate", text=NAMES),
            ["paper", "live", "2", "alpha", "desk_b", "zeta"],
        )
        options = "[...document.querySelector('[name=account]').options].map(({ value }) => value)"
        self.assertEqual(
            await browser.do("evaluate", text=options),
            ["", "paper", "live", "2", "alpha", "desk_b", "zeta"],
        )
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for width, limit in ((1360, 60), (1000, 60), (390, 100)):
            path = str(SCREENSHOTS / f"six-{width}.png")
            await browser.do("picture", path=path, width=width, height=850, scheme="light")
            heights = await browser.do("evaluate", text=HEIGHTS)
            self.assertLess(max(heights[:-1]), limit, width)
            self.assertEqual(await browser.do("evaluate", text=CUT), [], width)
            wide = "document.documentElement.scrollWidth - innerWidth"
            self.assertLessEqual(await browser.do("evaluate", text=wide), 0, width)
        await self.assert_console_is_empty(browser)
