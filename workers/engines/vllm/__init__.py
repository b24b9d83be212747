"""vLLM as an engine. It runs in an environment of its own, since vLLM pins other versions than Headrace."""

import os
import sys
from pathlib import Path

# Read by vLLM, also when it is imported. Nobody is told that it is used.
os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the scheduler runs in the engine process
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # others compute here, too
    # Its processes meet on the loopback device.
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    # What is compiled lies beside the packages that have compiled it, where the next load finds it.
    "TORCHINDUCTOR_CACHE_DIR": str(Path(sys.prefix) / "compiled"),
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
