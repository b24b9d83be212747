"""Handlers of job kinds on a replica: how a job becomes sequences, and outputs become events."""
