"""Accepts requests, routes them to models, and follows their jobs. Knows no face and no engine."""
