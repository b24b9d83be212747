"""What each process of vLLM that computes does for us: it imports this module before it loads its weights."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import torch

from workers.engines.children import log_lines

if multiprocessing.parent_process():
    log_lines(multiprocessing.current_process().name)
# vLLM uses AMX, and leaves it to oneDNN to ask the kernel for it, which may come later: that would be a SIGILL.
torch.cpu._init_amx()


class WorkerExtension:
    """Becomes a base of vLLM's worker."""

    def unlink_meeting_place(self) -> None:
        """Remove the names of what the processes have met by on a CPU, when all have it open: so it ends with them."""
        name = os.environ.get("VLLM_DIST_IDENT")
        for folder in ("/dev/shm", tempfile.gettempdir()):
            for path in Path(folder).glob(f"{name}*") if name else ():
                path.unlink(missing_ok=True)
