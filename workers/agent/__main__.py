"""`python -m workers.agent`."""

from gateway.process.start import run
from workers.agent.reconciler import main

if __name__ == "__main__":
    run(main)
