"""Metrics: what is counted, by whom, and how it is shown."""
