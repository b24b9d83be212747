"""Redis: the connection, its keys and scripts, and how what lies there is read."""
