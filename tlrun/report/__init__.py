"""Tables and pictures of finished runs and of data, read through `run.py` and `data/`."""
