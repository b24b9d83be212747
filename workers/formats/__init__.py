"""Readers of model files: one module a format."""
