"""Tests for the dashboard's alerts on fills and its download, in Node.js."""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import Any

from tests.support.scripts import ScriptTestCase
from tradeproxy.tradelog.columns import COLUMNS

ALERTS = """
const shown = [], said = [], timers = [];
let sounds = 0;
const parameter = { setValueAtTime() {}, exponentialRampToValueAtTime() {} };
const node = () => ({
  frequency: {}, gain: parameter, connect: (to) => to, start: () => { sounds += 1; }, stop() {},
});
globalThis.addEventListener = () => {};
globalThis.setTimeout = (call) => timers.push(call);
globalThis.AudioContext = class {
  state = "running";
  createOscillator = node;
  createGain = node;
};
globalThis.Notification = class {
  static permission = "granted";
  static requestPermission = async () => Notification.permission;
  constructor(title, { body }) { shown.push([title, body]); }
};
const choices = { sound: false, notification: false };
const preferences = {
  get: (name) => choices[name],
  turnOff: (name) => { choices[name] = false; },
};
const { Alerts } = await import("./alerts.js");
const start = () => new Alerts(preferences, (text) => said.push(text));
const run = () => timers.splice(0).forEach((call) => call());
const fill = (order, event = "fill", account = "paper") => ({
  account, event, order, side: "buy", quantity: "2", symbol: "SPY", price: "668.07",
});
"""
LINE = "paper: fill buy 2 SPY at 668.07"


class AlertTests(ScriptTestCase):
    """A sound and a notification on fills."""

    def alert(self, text: str) -> Any:
        return self.run_script(f"{ALERTS}\n{text}\nconst result = [shown, sounds, said, choices];")

    def test_alerts_are_off_by_default(self) -> None:
        """No sound, no notification, and no question of the browser."""
        result = self.alert("""
            Notification.requestPermission = () => said.push("asked");
            const alerts = start();
            alerts.begin("paper");
            alerts.take(fill("a"));
            run();
        """)
        self.assertEqual(result[:3], [[], 0, []])

    def test_only_fills_after_the_replay_are_news(self) -> None:
        """A page that is opened has the last 300 events; they are no reason for 300 sounds."""
        shown, sounds, said, _ = self.alert("""
            const alerts = start();
            choices.sound = choices.notification = true;
            await alerts.choose("sound");
            alerts.take(fill("replayed"));
            alerts.begin("paper");
            alerts.take(fill("other account", "fill", "live"));
            alerts.take(fill("new order", "new"));
            alerts.take(fill("a"));
            run();
        """)
        self.assertEqual(shown, [[LINE, "a"]])
        self.assertEqual(sounds, 2, "one when it is turned on, one for the fill")
        self.assertEqual(said, [""])

    def test_many_fills_are_one_alert(self) -> None:
        """A batch after an outage may have thousands; the newest five are listed."""
        shown, sounds, _, _ = self.alert("""
            choices.sound = choices.notification = true;
            const alerts = start();
            await alerts.choose("sound");
            alerts.begin("paper");
            for (let n = 0; n < 7; n += 1) alerts.take(fill(`a${n}`, "partial_fill"));
            run();
        """)
        line = LINE.replace("fill", "partial_fill")
        self.assertEqual((shown, sounds), ([["7 fills", "\n".join([line] * 5)]], 2))

    def test_choice_of_a_theme_asks_for_no_permission(self) -> None:
        """The browser asked whether the page may send notifications, and the page complained."""
        _, _, said, _ = self.alert("""
            Notification.requestPermission = async () => said.push("asked");
            const alerts = start();
            choices.theme = "dark";
            await alerts.choose("theme");
        """)
        self.assertNotIn("asked", said)
        self.assertEqual([text for text in said if text], [])

    def test_refused_notifications_are_turned_off_with_a_reason(self) -> None:
        """A switch that is on and does nothing would be believed."""
        for broken, text in (
            (
                "Notification.permission = 'denied';",
                "The browser allows no notifications from this",
            ),
            (
                "delete globalThis.Notification;",
                "The browser allows no notifications from this page",
            ),
        ):
            _, _, said, choices = self.alert(f"""
                const alerts = start();
                choices.notification = true;
                {broken}
                await alerts.choose("notification");
            """)
            self.assertIn(text, said[-1])
            self.assertFalse(choices["notification"])
        _, _, said, choices = self.alert("""
            choices.notification = true;
            const alerts = start();
            globalThis.Notification = class { constructor() { throw new TypeError("a worker"); } };
            alerts.begin("paper");
            alerts.take(fill("a"));
            run();
        """)
        self.assertEqual(said, ["This browser shows no notifications from pages."])
        self.assertFalse(choices["notification"])


class DownloadTests(ScriptTestCase):
    """The CSV of the shown events."""

    def download(self, *events: dict[str, Any]) -> list[dict[str, str]]:
        """Return the rows for the events of the account live."""
        texts = [json.dumps({"stream": "trade_updates", "data": event}) for event in events]
        text = self.run_script(f"""
            const {{ toCsv }} = await import("./download.js");
            const texts = {json.dumps(texts)};
            const result = toCsv(texts.map((text) => ({{
              account: "live", recovered: "events", quantity: "2 of 5", price: "limit 1,5", text,
            }})));
        """)
        return list(csv.DictReader(StringIO(text, newline="")))

    def test_columns_are_those_of_the_export(self) -> None:
        """Spreadsheets got "2 of 5" and "limit 1,5", which are no numbers, under other names."""
        order = {"qty": "5", "limit_price": "1.5", "id": "o-1", "legs": None, "notional": None}
        event = {"at": "2026-07-24T14:42:50.132734Z", "qty": "2", "price": 1.25, "order": order}
        event["reason"] = "of the exchange"
        [row, bare] = self.download(event, {"timestamp": "2026-07-24T14:42:51Z", "order": []})
        self.assertEqual([*row], [*COLUMNS, "account"])
        filled = {name: value for name, value in row.items() if value}
        self.assertEqual(
            filled,
            {
                "time": "2026-07-24T14:42:50.132734Z",
                "order_id": "o-1",
                "qty": "2",
                "price": "1.25",
                "order_qty": "5",
                "limit_price": "1.5",
                "recovered": "events",
                "reason": "of the exchange",
                "account": "live",
            },
        )
        self.assertEqual(bare["time"], "2026-07-24T14:42:51Z")

    def test_fields_are_read_back_and_are_no_formulas(self) -> None:
        """A client_order_id may be anything, and is opened in a spreadsheet."""
        names = ("=1+1", " @x", 'say "hi";', "a\r\nb", "-1e5", "\0", "+44 x", "a; =1;b=c", 'x;"=1')
        rows = self.download(*({"order": {"client_order_id": name}} for name in names))
        self.assertEqual(
            [row["client_order_id"] for row in rows],
            [
                "'=1+1",
                "' @x",
                'say "hi";',
                "a\r\nb",
                "-1e5",
                "\ufffd",
                "'+44 x",
                "a; '=1;b=c",
                "x;\"'=1",
            ],
        )
