"""Follows jobs: one subscription per process, shared by all its watchers. Knows no face."""
