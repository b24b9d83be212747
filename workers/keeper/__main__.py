"""`python -m workers.keeper`."""

from gateway.process.start import run
from workers.keeper.keeper import main

if __name__ == "__main__":
    run(main)
