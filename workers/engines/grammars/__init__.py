"""Answers in a form: what a grammar allows to come next, for one library or another. Knows no engine."""
