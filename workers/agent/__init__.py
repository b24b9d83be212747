"""The agent of a device: makes its desired state true, and runs deployments."""
