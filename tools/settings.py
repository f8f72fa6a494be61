"""Writes what .env.example and docs/configuration.md say about each setting, from the code.

Both pages have the headings of `SECTIONS`. Under a heading, the paragraphs of .env.example and the
rows of the table in docs/configuration.md that name a PROXY_* variable are written from the code.
All other text is kept: paragraphs of .env.example stay before those of the variables, and rows
before the other rows.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tradeproxy.config.setting import flag
from tradeproxy.config.settings import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.config.setting import Setting

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / ".env.example"
PAGE = ROOT / "docs/configuration.md"

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#]*)[^)]*\)")


def write_example(text: str) -> str:
    """Return the text of .env.example with the paragraphs of the settings as they are now."""
    head, *sections = re.split(r"^# --- (.+) ---\n", text, flags=re.MULTILINE)
    return head + "\n".join(
        f"# --- {title} ---\n{_write_paragraphs(title, body)}" for title, body in _pair(sections)
    )


def write_page(text: str) -> str:
    """Return the text of docs/configuration.md with the rows of the settings as they are now."""
    head, *sections = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return head + "".join(
        f"## {title}\n{_write_rows(title, body)}" for title, body in _pair(sections)
    )


def _pair(parts: list[str]) -> list[tuple[str, str]]:
    found = list(zip(parts[::2], parts[1::2], strict=True))
    if missing := SECTIONS.keys() - {title for title, _ in found}:
        raise ValueError(f"there is no heading for {', '.join(sorted(missing))}")
    return found


def _write_paragraphs(title: str, body: str) -> str:
    kept = [
        paragraph
        for paragraph in body.strip().split("\n\n")
        if not re.search(r"^#? ?PROXY_\w+=", paragraph, re.MULTILINE)
    ]
    written = [_write_paragraph(each) for each in SECTIONS.get(title, ())]
    return "".join(f"\n{paragraph}\n" for paragraph in (*kept, *written) if paragraph)


def _write_paragraph(setting: Setting[Any]) -> str:
    # The first letter of a name or a value, which is in backticks, stays small.
    what = setting.what if setting.what[0] in "`'" else setting.what[0].upper() + setting.what[1:]
    sentences = [f"{_strip_markdown(what)}.", setting.more]
    name, *files = (each.replace("<NAME>", "DESK") for each in setting.names)
    sentences += [f"{file} names a file with the value." for file in files]
    comment = textwrap.wrap(
        " ".join(filter(None, sentences)),
        100,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    lines = [f"# {name}={setting.text}", *(f"# {file}=" for file in files)]
    return "\n".join([*comment, *lines])


def _strip_markdown(text: str) -> str:
    return _LINK.sub(r"\1 (docs/\2)", text).replace("`", "")


def _write_rows(title: str, body: str) -> str:
    if title not in SECTIONS:
        return body
    rows = "".join(f"{_write_row(each)}\n" for each in SECTIONS[title])
    table = re.compile(r"^(\| variable .*\n\|[-|]+\n)((?:\|.*\n)*)", re.MULTILINE)

    def write(match: re.Match[str]) -> str:
        kept = [row for row in match[2].splitlines(True) if not row.startswith("| `PROXY_")]
        return match[1] + "".join(kept) + rows

    written, count = table.subn(write, body)
    if count != 1:
        raise ValueError(f"there is no table of variables under {title!r}, or more than one")
    return written


def _write_row(setting: Setting[Any]) -> str:
    words = {"0": "no", "1": "yes"} if setting.parse is flag else {}
    default = setting.cell or words.get(setting.text, setting.text)
    return f"| `{setting.name}` | {default} | {setting.what} |".replace("|  |", "| |")


PAGES: dict[Path, Callable[[str], str]] = {EXAMPLE: write_example, PAGE: write_page}
"""The pages that are written from the settings."""


def main() -> None:
    """Write the pages."""
    for path, write in PAGES.items():
        path.write_text(write(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
