"""Rows varied as they are trained on, and averaged over views as they are judged."""
