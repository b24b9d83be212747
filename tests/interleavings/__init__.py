"""The parts of the job core, driven step by step by one thread, with every fault between any two commands."""
