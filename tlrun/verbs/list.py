"""`tlrun list [WHAT]`: what there is to choose from, a line each."""

from __future__ import annotations

from tlrun import listing
from tlrun.verbs import Parser


def main(arguments: list[str]) -> int:
    """Prints one list, or all of them. Raises ConfigError where there is no such list or folder."""
    parser = Parser("list", "[WHAT]")
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", help=f"{', '.join(listing.KINDS)}; all of them where it is left out"
    )
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    chosen = parser.parse_args(arguments)
    print(listing.list_text(chosen.what, listing.folders(chosen.config_dir)))
    return 0
