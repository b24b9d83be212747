"""What the fake engine can do beside saying words: faults on demand, and likely tokens."""
