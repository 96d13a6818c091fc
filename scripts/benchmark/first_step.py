"""`python first_step.py [overrides]`: tlrun up to its first optimizer step; prints the clock then, and ends the process.

The clock is time.monotonic, which on Linux is the same for all processes, so that whoever started this one can tell how
long it took from the start of the command.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def report(*ignored: Any) -> None:
    sys.stdout.write(f"{time.monotonic()}\n")
    sys.stdout.flush()
    os._exit(0)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Waits for the import of the engine, which comes after torch's own, and asks torch to report its first step."""
    if event == "import" and arguments[0] == "tlrun.engine.engine":
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(report)


if __name__ == "__main__":
    sys.addaudithook(watch)
    from tlrun.cli import main

    raise SystemExit(main(sys.argv[1:]))
