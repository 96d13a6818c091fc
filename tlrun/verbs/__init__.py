"""What `tlrun VERB ...` does beside training: one module a verb, each with `main(arguments) -> exit code`.

A module is imported when its verb is called, and imports what it needs itself; `--help` and `list` load no torch.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from tlrun.config import ConfigError

VERBS = ("list", "data", "doctor", "report", "distance")
"""Every verb, in the order in which help shows them."""


class Parser(argparse.ArgumentParser):
    """A parser of one verb: shows the verb's help, and tells a wrong option as everything else that is wrong is told.

    usage and epilog are shown as they are written.
    """

    def __init__(self, verb: str, usage: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"tlrun {verb}",
            usage=f"tlrun {verb} {usage}",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}")
