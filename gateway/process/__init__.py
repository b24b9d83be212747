"""How processes start, log, start others, and leave a trace when they crash. Knows no Redis."""
