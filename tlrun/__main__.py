"""`python -m tlrun` is `tlrun`."""

from __future__ import annotations

import sys

from tlrun.cli import main

if __name__ == "__main__":
    sys.exit(main())
