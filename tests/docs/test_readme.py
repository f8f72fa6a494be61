"""Tests for README.md and the pages that it leads to: length and links."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [
    README,
    *ROOT.glob("[A-Z]*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "benchmarks/README.md",
]

MAX_LINES = 120


def read(page: Path) -> str:
    """Return the text of a page."""
    return page.read_text(encoding="utf-8")


def list_anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as hosts of repositories make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


class ReadmeTests(SynchronousTestCase):
    """A newcomer reads the README whole."""

    def test_readme_is_short(self) -> None:
        """Details have pages of their own."""
        self.assertLessEqual(len(read(README).splitlines()), MAX_LINES)

    def test_readme_leads_to_every_page(self) -> None:
        """Each page in docs/ is linked from the README, or from a page that the README links."""
        links = re.findall(r"\]\((?:docs/)?([a-z-]+\.md)", "".join(map(read, PAGES)))
        pages = {page.name for page in (ROOT / "docs").glob("*.md")}
        self.assertEqual(pages - set(links), set())

    def test_links_lead_somewhere(self) -> None:
        """Every relative link is a file, and its anchor a heading of it."""
        for page in PAGES:
            for link in re.findall(r"\]\(([^)\s]+)\)", read(page)):
                path, _, anchor = link.partition("#")
                if ":" not in link:
                    target = page.parent / path if path else page
                    self.assertTrue(target.exists(), f"{page.name}: {link}")
                    if anchor:
                        self.assertIn(anchor, list_anchors(read(target)), f"{page.name}: {link}")
