#!/usr/bin/env python3
"""Writes README's tables of strategies, pairs, domains and models anew, from the headings that `tlrun list` shows.

scripts/readme_tables.py        a test holds README equal to what this writes
"""

from __future__ import annotations

import re
from pathlib import Path

from tlrun.listing import config_folder, options

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- tlrun list (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The text with what stands between `<!-- tlrun list WHAT -->` and `<!-- end -->` made anew."""
    return BLOCK.sub(lambda found: found[1] + table(found[2]) + found[3], text)


def table(what: str) -> str:
    """A Markdown table of everything of that sort: name and heading."""
    rows = [f"| `{name}` | {heading} |" for name, heading in options(what, [config_folder()]).items()]
    singular = {"strategies": "strategy"}.get(what, what.removesuffix("s"))
    return "\n".join((f"| {singular} | |", "|---|---|", *rows)) + "\n"


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
