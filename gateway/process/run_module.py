"""`python -P gateway/process/run_module.py -m MODULE ARGS...`: as `python -m`, of the code that this file belongs to.

With -P Python does not look into the current folder, where a file `redis.py` may lie, but a checkout that is not
installed would not be found either.
"""

import runpy
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])

if __name__ == "__main__":
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
