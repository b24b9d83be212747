"""The keeper: returns lost jobs to their queue, and ends jobs without a client."""
