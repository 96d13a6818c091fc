"""The one trainer: it owns the optimizer, the clock, the checkpoints and the evaluation, and knows no strategy by name."""
