"""Intervals that stay inside a metric's domain, and verdicts that admit what a sample cannot decide. NumPy only."""
