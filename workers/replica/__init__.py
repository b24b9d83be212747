"""The model worker: one engine process, and the jobs that run on it."""
