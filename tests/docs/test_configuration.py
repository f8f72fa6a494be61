"""Tests for tools.settings: .env.example and docs/configuration.md show what the code declares."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tools.settings import PAGES, write_example, write_page
from tradeproxy.config.setting import list_settings
from tradeproxy.config.settings import SECTIONS, read_settings

EXAMPLE, PAGE = (path.read_text(encoding="utf-8") for path in PAGES)


class PagesOfSettingsTests(SynchronousTestCase):
    """A user finds each setting, with its default, on both pages."""

    maxDiff = None

    def test_pages_equal_the_code(self) -> None:
        """After a change of a setting, `make settings` writes both."""
        self.assertEqual(EXAMPLE, write_example(EXAMPLE))
        self.assertEqual(PAGE, write_page(PAGE))

    def test_setting_of_a_field_is_in_a_section(self) -> None:
        """Otherwise it is read, but is on no page, and its variable causes a warning."""
        settings = read_settings({"ALPACA_OAUTH_TOKEN": "x"}, directory=Path("/nowhere"))
        groups = [settings, *(getattr(settings, part.name) for part in fields(settings))]
        declared = {
            each.name for group in groups if is_dataclass(group) for each in list_settings(group)
        }
        self.assertIn("PROXY_MAX_CLIENTS", declared)
        listed = [each.name for settings in SECTIONS.values() for each in settings]
        self.assertEqual(declared - {*listed}, set())
        self.assertEqual(len(listed), len({*listed}))

    def test_paragraph_missing_is_written_under_its_heading(self) -> None:
        """The paragraph of a new setting. Text that names no PROXY_* variable is kept."""
        paragraph = "# The lowest level in the log: debug, info, warn, error or critical.\n"
        without = EXAMPLE.replace(paragraph + "# PROXY_LOG_LEVEL=info\n\n", "")
        self.assertNotEqual(without, EXAMPLE)
        self.assertEqual(write_example(without), EXAMPLE)

    def test_row_of_a_variable_that_is_gone_is_removed(self) -> None:
        """Rows of variables that are not the proxy's own are kept, such as those of accounts."""
        header = "## Recovery\n\n| variable | default | what |\n|---|---|---|\n"
        more = PAGE.replace(header, header + "| `PROXY_GONE` | 1 | nothing |\n")
        self.assertIn("PROXY_GONE", more)
        self.assertEqual(write_page(more), PAGE)

    def test_heading_missing_is_an_error(self) -> None:
        """Otherwise the settings of that section would be on no page."""
        for write, text, heading in (
            (write_example, EXAMPLE, "# --- Recovery ---"),
            (write_page, PAGE, "## Recovery"),
        ):
            with self.assertRaisesRegex(ValueError, "there is no heading for Recovery"):
                write(text.replace(heading, heading.replace("Recovery", "Other")))
