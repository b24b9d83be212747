"""`python -P workers/engines/run_alone.py MODULE ARGS...`: runs a module of this room, under any interpreter.

Nothing beside this room can be imported: it may need packages that this interpreter lacks. Nor can what makers of
engines count their users with: OpenVINO and NNCF would report each start.
"""

import importlib.util
import runpy
import sys
import types
from pathlib import Path

ROOM = Path(__file__).resolve().parent

if __name__ == "__main__":
    workers = sys.modules["workers"] = types.ModuleType("workers")
    workers.__path__ = []
    spec = importlib.util.spec_from_file_location("workers.engines", ROOM / "__init__.py")
    assert spec and spec.loader
    room = sys.modules["workers.engines"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(room)
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # whoever imports it goes on without it
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
