"""What operators see and change of the installation: its machines, and who may join it."""
