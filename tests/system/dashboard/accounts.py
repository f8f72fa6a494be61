"""The accounts on the dashboard in Chromium: trouble with its remedy, and many accounts.

`make dashboard` runs these tests and writes screenshots to build/dashboard/.
"""

from __future__ import annotations

from tests.system.dashboard.watching import LINK, DashboardTestCase

LIVE = "article[data-account=live]"


class TroubleTests(DashboardTestCase):
    """One account is down."""

    async def test_trouble_has_remedy_next_attempt_and_help(self) -> None:
        """The page gave the bare reason. The help page that the proxy serves explains it."""
        alpaca = await self.simulate()
        await self.proxy(
            ALPACA_LIVE_API_KEY="x",
            ALPACA_LIVE_SECRET_KEY="x",
            ALPACA_LIVE_URL="http://127.0.0.1:1",
        )
        await alpaca.when_listening()
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
