"""What runs where: heartbeats, the desired state, and the startup of replicas. Knows no job."""
