"""The catalog: which models there are, and what engines can do."""
