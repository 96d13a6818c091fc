"""What `tlrun VERB ...` does beside training: one module a verb, each with `main(arguments) -> exit code`.

A module is imported when its verb is called, and imports what it needs itself; `--help` and `list` load no torch.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from tlrun.config import ConfigError

VERBS = ("list", "data", "doctor", "report")
"""Every verb, in the order in which help shows them."""


class Parser(argparse.ArgumentParser):
    """A parser that tells a wrong option as everything else that is wrong is told."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}")
