"""What runs where: heartbeats, the desired state, and how a start goes on. Knows no job."""
