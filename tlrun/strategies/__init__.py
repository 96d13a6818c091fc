"""One transfer method a file; `base.py` says what a strategy is, and a new one is a file here and a YAML in `configs/strategy`."""
