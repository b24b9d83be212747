"""Celery: the names of queues, the application, and the messages that wake a worker up. Knows no job."""
