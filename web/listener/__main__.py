"""`python -m web.listener`."""

from gateway.process.start import run
from web.listener.server import main

if __name__ == "__main__":
    run(main)
