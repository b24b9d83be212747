"""API keys, their limits, and certificates. Knows no job and no model."""
