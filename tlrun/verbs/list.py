"""`tlrun list [WHAT]`: what there is to choose from, a line each."""

from __future__ import annotations

from pathlib import Path

from tlrun import listing
from tlrun.verbs import Parser


def main(arguments: list[str]) -> int:
    """Prints one list, or all of them. Raises ConfigError where there is no such list."""
    parser = Parser(prog="tlrun list", add_help=False)
    parser.add_argument("what", nargs="?")
    parser.add_argument("--config-dir", "-cd")
    chosen = parser.parse_args(arguments)
    folders = [listing.config_folder(), *([Path(chosen.config_dir)] if chosen.config_dir else [])]
    print(listing.list_text(chosen.what, folders))
    return 0
