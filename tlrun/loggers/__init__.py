"""Where a run's epochs are told beside metrics.csv, one module a tool, each behind an extra of its own.

A log is a copy of what the run folder holds: the same rows under the same names, the settings, the summary. Nothing is
computed for it, and a run's numbers and name do not depend on it. All stays on this machine unless the user's own
environment says otherwise (MLFLOW_TRACKING_URI, WANDB_MODE).
"""
