"""Tables and pictures: of finished runs, read through `tlrun/run.py`, and of data before a run."""
