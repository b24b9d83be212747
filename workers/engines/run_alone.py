"""`python -P workers/engines/run_alone.py MODULE ARGS...`: runs a module of this room, under any interpreter.

Nothing beside this room can be imported: it may need packages that this interpreter lacks. Nor can what makers of
engines count their users with: OpenVINO and NNCF would report each start.
"""

import ctypes
import importlib.util
import runpy
import signal
import sys
import types
from pathlib import Path

ROOM = Path(__file__).resolve().parent
PR_SET_PDEATHSIG = 1

if __name__ == "__mp_main__":  # a process that a library has started by multiprocessing: it ends with this one
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

if __name__ in ("__main__", "__mp_main__"):
    workers = sys.modules["workers"] = types.ModuleType("workers")
    workers.__path__ = []
    spec = importlib.util.spec_from_file_location("workers.engines", ROOM / "__init__.py")
    assert spec and spec.loader
    room = sys.modules["workers.engines"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(room)
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # whoever imports it goes on without it

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    # This file stays the main module: multiprocessing runs it in the processes that it starts.
    runpy.run_module(sys.argv[0], run_name="__main__")
