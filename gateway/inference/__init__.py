"""Takes a request, finds who serves it, and follows what becomes of it. Knows no face and no engine."""
