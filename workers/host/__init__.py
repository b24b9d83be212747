"""The machine: its devices, and the memory that processes use."""
