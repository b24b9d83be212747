"""The keeper: finds what was lost, gives it back, and ends what nobody waits for."""
