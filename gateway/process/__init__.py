"""How a process begins, logs, starts others and is known to have ended. Knows no Redis."""
