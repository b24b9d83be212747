"""Celery's application and task bodies."""
