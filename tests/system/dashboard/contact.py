"""The dashboard in Chromium while the proxy is dead: nothing is shown as current.

`make dashboard` runs these tests and writes screenshots to build/dashboard/.
"""

from __future__ import annotations

import json
import os
from signal import SIGCONT, SIGSTOP

from tests.support.frames import AUTH
from tests.system.dashboard.watching import (
    CARD,
    LINK,
    NOTES,
    ROWS,
    SCREENSHOTS,
    VERDICT,
    DashboardTestCase,
)

TITLE = "document.title"
STATE = f"document.querySelector('{CARD} .state').textContent"
COLORS = f"""(() => {{
  const of = (at, pseudo) => getComputedStyle(document.querySelector(at), pseudo);
  return {{
    verdict: of("#verdict").color,
    state: of("{CARD} .state").color,
    dot: of("{CARD} h2", "::before").backgroundColor,
    clients: of("#clients-list .badge").color,
    bars: of("{CARD} rect").fill,
  }};
}})()"""

RECORD_SOCKETS = """
  globalThis.sockets = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
    }
  };
"""


BREAKABLE = """
  globalThis.sockets = [];
  globalThis.noStream = globalThis.noStatus = globalThis.spoil = false;
  globalThis.WebSocket = class extends WebSocket {
    constructor(url) {
      super(noStream ? new URL("/trade-updates-nosuch", url) : url);
      sockets.push(this);
    }
  };
  const { fetch } = globalThis;
  globalThis.fetch = async (...request) => {
    if (noStatus) throw new TypeError("broken by the test");
    const answer = await fetch(...request);
    return spoil ? new Response("{}") : answer;
  };
"""


class DeadProxyTests(DashboardTestCase):
    """A proxy that is killed, and started again; the simulated Alpaca keeps running."""

    async def test_killed_proxy_is_never_shown_as_current(self) -> None:
        """The page said "all is well" and counted on for a proxy that `kill -9` had ended."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await self.connect("/trade-updates-paper?client_name=bot1", AUTH)
        alpaca.apply(alpaca.exchange.burst(3))
        await browser.until(
            f"{VERDICT} === 'all is well' && {LINK} === 'connected' && {ROWS}.length >= 3"
            " && document.querySelector('#clients-list .badge')"
            " && document.querySelector('#clients-summary').textContent.includes('dashboards')"
        )
        before = await browser.do("evaluate", text=COLORS)

        await proxy.stop("KILL")
        await browser.until(rf"/^no contact with the proxy since \d\d:\d\d:\d\d$/.test({VERDICT})")
        await browser.until(rf"/^not connected; next attempt in \d s$/.test({LINK})")
        title = await browser.do("evaluate", text=TITLE)
        self.assertTrue(title.startswith("✕ no contact"), title)
        self.assertIn("see whether the proxy runs", await browser.text("#remedy"))
        await browser.until(f"{NOTES}.length > 0")
        notes = await browser.do("evaluate", text=NOTES)
        self.assertRegex(notes[0], r"^contact with the proxy lost; the last sign was at [0-9:]{8}$")
        after = await browser.do("evaluate", text=COLORS)
        red = await browser.do("evaluate", text=self.color("--bad"))
        grey = await browser.do("evaluate", text=self.color("--over"))
        self.assertEqual(after.pop("verdict"), red)
        self.assertEqual(set(after.values()), {grey})
        self.assertNotIn(grey, before.values())
        age = await browser.do("evaluate", text=STATE)
        self.assertRegex(age, r"^was streaming for \d+ s$")
        clients = await browser.text("#clients-summary")
        self.assertRegex(
            clients, r"^at [0-9:]{8}: 1 connected, not counted: 1 stream of dashboards$"
        )
        for name, (width, scheme) in {"dead": (1360, "light"), "dead-390": (390, "dark")}.items():
            path = str(SCREENSHOTS / f"{name}.png")
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            await browser.do("picture", path=path, width=width, height=850, scheme=scheme)
        # The delays double, so this is after several attempts. The age is still what it was.
        await browser.until(f"/next attempt in [3-9] s/.test({LINK})")
        await browser.until(f"/next attempt in [12] s/.test({LINK})")
        self.assertEqual(await browser.do("evaluate", text=STATE), age)
        self.assertNotIn("all is well", await browser.text("body"))

        alpaca.apply(alpaca.exchange.burst(2))
        await self.proxy_again()
        await browser.until(f"{LINK} === 'connected' && {VERDICT} === 'all is well'")
        await browser.until(f"{STATE}.startsWith('streaming for ')")
        self.assertEqual(await browser.do("evaluate", text=TITLE), "tradeproxy")
        found = json.dumps("contact with the proxy found again after ")
        await browser.until(f"{NOTES}.some((note) => note.startsWith({found}))")
        notes = await browser.do("evaluate", text=NOTES)
        self.assertEqual(sum("contact with the proxy lost" in note for note in notes), 1)
        await self.assert_console_is_empty(
            browser, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"
        )

    async def test_hung_proxy_is_not_shown_as_current(self) -> None:
        """Its connections stay open: only a request without an answer shows it."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        assert proxy.transport is not None
        proxy.transport.signalProcess(SIGSTOP)
        self.addCleanup(os.kill, proxy.pid, SIGCONT)
        await browser.until(f"{VERDICT}.startsWith('no contact with the proxy since ')")
        alpaca.apply(alpaca.exchange.burst(2))
        proxy.transport.signalProcess(SIGCONT)
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        await browser.until(f"{ROWS}.length === 2 && {NOTES}.length >= 2")
        notes = await browser.do("evaluate", text=NOTES)
        self.assertTrue(notes[0].startswith("contact with the proxy found again after "), notes)
        self.assertTrue(notes[1].startswith("contact with the proxy lost"), notes)

    async def test_lost_stream_of_a_living_proxy_is_noted(self) -> None:
        """Only this page's stream is lost: the accounts stay current, and the list says so."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        browser = await self.open_dashboard()
        await browser.do("prepare", text=RECORD_SOCKETS)
        await browser.do("open", url=f"http://localhost:{self.port}/")
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        await browser.do("evaluate", text="sockets.at(-1).close()")
        await browser.until(f"{NOTES}.length === 2 && {LINK} === 'connected'")
        notes = await browser.do("evaluate", text=NOTES)
        self.assertEqual(
            notes,
            [
                "this page gets this account's events again",
                "this page lost the account's stream; its events follow late",
            ],
        )
        self.assertEqual(await browser.do("evaluate", text=VERDICT), "all is well")
        await self.assert_console_is_empty(browser)

    async def test_stream_that_is_lost_again_after_contact_was_lost_is_noted(self) -> None:
        """The loss of contact ended the first loss of the stream; the second one had no line."""
        await self.simulate()
        await self.proxy()
        browser = await self.open_dashboard()
        await browser.do("prepare", text=BREAKABLE)
        await browser.do("open", url=f"http://localhost:{self.port}/")
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        lost = "note.startsWith('this page lost')"
        for count in (1, 2):
            await browser.do("evaluate", text="noStream = true, sockets.at(-1).close()")
            await browser.until(f"{NOTES}.filter((note) => {lost}).length === {count}")
            await browser.do("evaluate", text="noStatus = true")
            await browser.until(f"{VERDICT}.startsWith('no contact')")
            await browser.do("evaluate", text="noStream = noStatus = false")
            await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        await self.assert_console_is_empty(browser, "WebSocket connection to")

    async def test_answer_that_the_page_cannot_show_is_not_current(self) -> None:
        """A page that is open for days meets the next version of the proxy.

        It asked no more, and its old state was current as long as events came.
        """
        await self.simulate()
        await self.proxy()
        browser = await self.open_dashboard()
        await browser.do("prepare", text=BREAKABLE)
        await browser.do("open", url=f"http://localhost:{self.port}/")
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        await browser.do("evaluate", text="spoil = true")
        await browser.until(
            rf"/^no contact with the proxy since [0-9:]+ \(.*: reload this page\)$/.test({VERDICT})"
        )
        await browser.until(f"/^not connected; next attempt in [3-9] s$/.test({LINK})")
        notes = await browser.do("evaluate", text=NOTES)
        self.assertEqual([note[:30] for note in notes], ["contact with the proxy lost; t"])
        await browser.do("evaluate", text="spoil = false")
        await browser.until(f"{VERDICT} === 'all is well' && {LINK} === 'connected'")
        await self.assert_console_is_empty(browser, "TypeError")

    def color(self, name: str) -> str:
        """Return a script that reads a color of the style sheet as it is computed."""
        return f"""(() => {{
          const probe = document.body.appendChild(document.createElement("i"));
          probe.style.color = "var({name})";
          const color = getComputedStyle(probe).color;
          probe.remove();
          return color;
        }})()"""
