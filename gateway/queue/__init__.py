"""Celery: the names of queues, and the messages that wake a worker up. Knows no job."""
