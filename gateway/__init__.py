"""The domain: jobs, journals, queues, models and keys. Shared by the faces and the workers."""
