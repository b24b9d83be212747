"""What vLLM is told: its `EngineArgs`, and which devices are its own.

Options: `eager` (no compilation, so it loads sooner), `args` for vLLM's `EngineArgs`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from workers.engines.base import EngineConfig
from workers.engines.pytorch.vocabulary import TOKENIZER
from workers.engines.vllm.adapters import lora_args

#: The most likely tokens that a request may ask for at each place.
MOST_LIKELY = 20
#: Tokens of a block of the KV cache.
BLOCK_TOKENS = 32


def claim_devices(config: EngineConfig) -> None:
    """Leave vLLM the devices, and the share of the processors, that are its own. Its processes read the environment."""
    size = config.tensor_parallel_size
    if size > 1:
        os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // size))
    kind, _, number = config.device.partition(":")
    if kind.lower() == "cpu":
        os.environ["VLLM_USE_AOT_COMPILE"] = "0"  # on a CPU it can't read what it has written so
    if kind == "cuda":
        first = int(number or 0)
        os.environ |= {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi counts them
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(first, first + size))),
        }


def devices(config: EngineConfig) -> list[str]:
    """The devices that it computes on, one for each process that shares the model."""
    kind, _, number = config.device.lower().partition(":")
    return [f"{kind}:{int(number or 0) + i}" if kind == "cuda" else kind for i in range(config.tensor_parallel_size)]


def engine_args(config: EngineConfig) -> dict[str, Any]:
    """Of vLLM's `EngineArgs`."""
    options = dict(config.options)
    eager, own = options.pop("eager", False), options.pop("args", {})
    return {
        "model": config.model_path,
        # Prompts come as ids, but vLLM takes no grammars without one.
        "skip_tokenizer_init": not (Path(config.model_path) / TOKENIZER).exists(),
        "structured_outputs_config": {"backend": "guidance"},
        "max_model_len": config.context_length,
        "max_num_seqs": config.max_batch_size,
        "tensor_parallel_size": config.tensor_parallel_size,
        "worker_extension_cls": "workers.engines.vllm.worker.WorkerExtension",
        "dtype": _dtype(config),
        "enforce_eager": eager,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "max_logprobs": MOST_LIKELY,
        "logprobs_mode": "raw_logprobs",
        "generation_config": "vllm",
        "disable_log_stats": True,
        "block_size": BLOCK_TOKENS,
        # It keeps one for itself.
        "num_gpu_blocks_override": config.kv_blocks(BLOCK_TOKENS) + 1,
        # That number counts: with these, vLLM does not ask for most of the memory.
        "kv_cache_memory_bytes": 1,
        "gpu_memory_utilization": 0.01,
        **lora_args(config.adapters, on_cpu=config.device.upper() == "CPU"),
        **own,
    }


def _dtype(config: EngineConfig) -> str:
    """The type in which it computes. vLLM's `auto` would take 16 bits for weights of 32; it must for packed ones."""
    if config.quantization == "bf16":
        return "bfloat16"
    said = json.loads((Path(config.model_path) / "config.json").read_text())
    stored = said.get("dtype") or said.get("torch_dtype")
    return "float32" if stored == "float32" and "quantization_config" not in said else "auto"
