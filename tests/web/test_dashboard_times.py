"""Tests for the times on the dashboard: dashboard/text.js in Node.js, and the kept choices."""

from __future__ import annotations

from typing import Any

from tests.support.scripts import ScriptTestCase

HEAD = """
process.env.TZ = "Europe/Berlin";
const { moment, setZone, zoneAt } = await import("./text.js");
const at = (text) => Date.parse(text);
"""
STORAGE = """
const { Preferences } = await import("./preferences.js");
const kept = new Map();
const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (k, v) => kept.set(k, v) };
const field = (name, values) => {
  return { name, value: values[0], options: values.map((value) => ({ value })) };
};
const form = () => {
  const zone = field("zone", ["", "UTC"]);
  const sound = { name: "sound", type: "checkbox", checked: false };
  const elements = Object.assign([zone, sound], { zone, sound });
  return Object.assign(new EventTarget(), { elements });
};
const change = (form, name) => {
  const event = new Event("change");
  Object.defineProperty(event, "target", { value: form.elements[name] });
  form.dispatchEvent(event);
};
"""


class ZoneTests(ScriptTestCase):
    """The time zone is the reader's choice: exchanges are in New York, the proxy's log in UTC."""

    def moments(self, text: str) -> Any:
        return self.run_script(f"{HEAD}\n{text}")

    def test_time_is_in_the_chosen_zone(self) -> None:
        """In summer and in winter, with milliseconds or without."""
        result = self.moments("""
            const [summer, winter] = ["2026-07-24T14:42:50.132734Z", "2026-01-31T14:30:00Z"];
            const result = ["", "America/New_York", "UTC"].map((zone) => {
              setZone(zone);
              return [summer, winter].map((text) => [moment(at(text), at(text)), zoneAt(at(text))]);
            });
        """)
        self.assertEqual(
            result,
            [
                [["16:42:50.132", "GMT+2"], ["15:30:00.000", "GMT+1"]],
                [["10:42:50.132", "EDT"], ["09:30:00.000", "EST"]],
                [["14:42:50.132", "UTC"], ["14:30:00.000", "UTC"]],
            ],
        )

    def test_date_is_shown_unless_it_is_today_in_that_zone(self) -> None:
        """01:30 UTC is still yesterday in New York; midnight is 00, not 24."""
        result = self.moments("""
            const [late, early] = [at("2026-07-23T23:30:00Z"), at("2026-07-24T01:30:00Z")];
            const result = ["America/New_York", "UTC"].map((zone) => {
              setZone(zone);
              return [moment(late, early, false), moment(at("2026-07-24T00:00:07Z"), early, false)];
            });
            result.push(moment(NaN, early));
        """)
        self.assertEqual(result, [["19:30:00", "20:00:07"], ["07-23 23:30:00", "00:00:07"], ""])


class PreferencesTests(ScriptTestCase):
    """The choices stay after a reload; what else is in the storage does no harm."""

    def test_choice_is_kept(self) -> None:
        """A second page reads what the first one wrote; nothing is written without a choice."""
        result = self.run_script(f"""{STORAGE}
            const first = form();
            const changed = [];
            const preferences = new Preferences(first, storage, (name) => changed.push(name));
            const result = [kept.size];
            first.elements.zone.value = "UTC";
            change(first, "zone");
            first.elements.sound.checked = true;
            change(first, "sound");
            const again = new Preferences(form(), storage, () => {{}});
            result.push(changed, again.get("zone"), again.get("sound"));
            again.turnOff("sound");
            result.push(new Preferences(form(), storage, () => {{}}).get("sound"));
        """)
        self.assertEqual(result, [0, ["zone", "sound"], "UTC", True, False])

    def test_unknown_choices_are_the_defaults(self) -> None:
        """The storage may have been written by another version, or by hand."""
        result = self.run_script(f"""{STORAGE}
            const texts = ["no JSON", "null", "7", '{{"zone":"Mars/Base","sound":"yes"}}'];
            const result = texts.map((text) => {{
              kept.set("tradeproxy preferences", text);
              const preferences = new Preferences(form(), storage, () => {{}});
              return [preferences.get("zone"), preferences.get("sound")];
            }});
        """)
        self.assertEqual(result, [["", False]] * 4)


class StorageTests(ScriptTestCase):
    """A browser that allows no storage: where site data is blocked, its name is an error."""

    def test_page_has_a_storage_of_its_own(self) -> None:
        """It lasts as long as the page."""
        result = self.run_script("""
            const { openStorage } = await import("./storage.js");
            const blocked = { get() { throw new Error("SecurityError"); } };
            Object.defineProperty(globalThis, "localStorage", blocked);
            Object.defineProperty(globalThis, "sessionStorage", { value: null });
            const result = ["localStorage", "sessionStorage"].map((name) => {
              const storage = openStorage(name);
              const before = storage.getItem("a");
              storage.setItem("a", "1");
              const kept = storage.getItem("a");
              storage.removeItem("a");
              return [before, kept, storage.getItem("a")];
            });
            Object.defineProperty(globalThis, "kept", { value: { getItem: () => "2" } });
            result.push(openStorage("kept").getItem("a"));
        """)
        self.assertEqual(result, [[None, "1", None]] * 2 + ["2"])

    def test_help_page_needs_no_storage(self) -> None:
        """It has the remedies, and nothing else may keep them from the reader."""
        result = self.run_script("""
            const blocked = { get() { throw new Error("SecurityError"); } };
            Object.defineProperty(globalThis, "localStorage", blocked);
            globalThis.addEventListener = () => {};
            globalThis.location = { hash: "" };
            const rows = [];
            const element = () => ({ append() {}, classList: { toggle() {} } });
            globalThis.document = {
              documentElement: { dataset: {} },
              createElement: element,
              getElementById: () => ({ replaceChildren: (...all) => rows.push(...all) }),
            };
            await import("./help.js");
            const { REMEDIES } = await import("./remedies.js");
            const result = rows.length === REMEDIES.length;
        """)
        self.assertTrue(result)
