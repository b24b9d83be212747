"""Redis: the connection, its keys and scripts, and how its values are checked."""
