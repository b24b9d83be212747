"""What answers each method: one file for each part of the interface."""
