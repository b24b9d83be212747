"""The agent of a node: keeps the replicas that are wanted there, and carries deployments out."""
