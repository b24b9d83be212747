"""The machine: its devices, and what a process takes of them."""
