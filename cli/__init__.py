"""The `headrace` command, and the supervisor behind `headrace up`."""
