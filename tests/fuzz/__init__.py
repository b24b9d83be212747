"""Odd input of every kind, made by hypothesis: whatever it is, one request ends with an answer or a clear error."""
