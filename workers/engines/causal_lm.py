"""Loads a causal language model with transformers, whole or one rank's share, and its continuous batching manager."""

from __future__ import annotations

import os
import re
import threading
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils import logging

from gateway.failures import DeploymentFailed, FailureReason
from workers.engines.base import EngineConfig

#: Prompt and decode tokens that one step may hold.
MAX_BATCHED_TOKENS = 512
PAGE_TOKENS = 32
CACHE_TOKENS = 16_384
_DTYPES = {"none": "auto", "bf16": "bfloat16"}


def device_of(config: EngineConfig, rank: int = 0) -> torch.device:
    """The device of a rank: that of `config.device` (`CPU`, `cuda1`, `cuda:12`) or, for rank N, the N-th behind it.

    Raises:
        DeploymentFailed: it is not the name of a device, or there are not so many.
    """
    match = re.fullmatch(r"([a-z]+):?([0-9]*)", config.device.lower())
    if match is None or match[1] not in ("cpu", "cuda"):
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_OPTION,
            f"The transformers engine runs on cpu and cuda, not on {config.device!r}.",
        )
    if match[1] == "cpu":
        return torch.device("cpu")
    index = int(match[2] or 0) + rank
    if index >= torch.cuda.device_count():
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_OPTION,
            f"There is no device cuda{index}; torch sees {torch.cuda.device_count()} CUDA devices.",
        )
    return torch.device("cuda", index)


def load_causal_lm(config: EngineConfig, rank: int = 0) -> Any:
    """The model on its device; with `tensor_parallel_size` above 1 this rank's share, once the ranks have met.

    Raises:
        DeploymentFailed: for a quantization or an architecture that it does not have.
    """
    if config.quantization not in _DTYPES:
        raise DeploymentFailed(
            FailureReason.BAD_QUANTIZATION,
            f"The transformers engine can't make {config.quantization}; allowed: {', '.join(_DTYPES)}.",
        )
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    size = config.tensor_parallel_size
    torch.set_num_threads(int(config.options.get("threads", 0)) or max(1, (os.cpu_count() or 1) // size))
    device = device_of(config, rank)
    shared = {"distributed_config": DistributedConfig(tp_size=size, tp_plan="auto")} if size > 1 else {}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            config.model_path,
            dtype=_DTYPES[config.quantization],
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **shared,
        )
    except ValueError as error:
        raise DeploymentFailed(FailureReason.UNSUPPORTED_ARCHITECTURE, str(error)) from error
    placed: Any = model
    return (placed if shared else placed.to(device)).eval()


def check_shares(config: EngineConfig) -> None:
    """Whether the model can be split over `tensor_parallel_size` processes, before any is started.

    Raises:
        DeploymentFailed: it can't; the text says why.
    """
    size, device = config.tensor_parallel_size, device_of(config, config.tensor_parallel_size - 1)
    accelerator = torch.accelerator.current_accelerator()
    shape: Any = AutoConfig.from_pretrained(config.model_path, local_files_only=True, trust_remote_code=False)
    text = shape.get_text_config()
    heads = {name: getattr(text, name, None) or 0 for name in ("num_attention_heads", "num_key_value_heads")}
    if not text.base_model_tp_plan:
        why = f"transformers has no plan that splits {text.model_type} models"
    elif any(number % size for number in heads.values()):
        why = f"each process needs the same number of heads, and the model has {heads}"
    elif device.type == "cpu" and accelerator is not None:
        # transformers puts the shares on the accelerator that torch was built for, whatever it is told.
        why = f"this build of torch is for {accelerator.type}, and would not put them on the CPU"
    else:
        return
    raise DeploymentFailed(FailureReason.UNSUPPORTED_OPTION, f"tensor_parallel_size {size} can't be: {why}.")


def start_manager(model: Any, config: EngineConfig, wake_up: threading.Event | None = None) -> Any:
    """The manager of the model's batch, which steps in a thread of its own: a daemon, so that the process can end.

    `wake_up` is what its idle loop waits for, up to 0.1 s at a time; by default it is set by new requests.
    """
    manager = model.init_continuous_batching(_sampled(), _batching(config))
    if wake_up is not None:
        manager._wake_up_loop = wake_up
    # The manager's thread is a daemon if its starter is one.
    starter = threading.Thread(target=manager.start, daemon=True)
    starter.start()
    starter.join()
    return manager


def _sampled() -> Any:
    """Each of the three has a value that makes the manager build its processor; every request brings its own."""
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True, temperature=0.5, top_k=50, top_p=0.5, eos_token_id=-1
    )


def _batching(config: EngineConfig) -> ContinuousBatchingConfig:
    on_cpu = config.device.lower().startswith("cpu")
    tokens = int(config.options.get("cache_tokens", min(config.max_batch_size * config.context_length, CACHE_TOKENS)))
    return ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=max(tokens, config.context_length) // PAGE_TOKENS + 1,
        max_batch_tokens=MAX_BATCHED_TOKENS,
        max_requests_per_batch=config.max_batch_size,
        per_request_processors=True,
        auto_switch_to_flash=config.use_flash_attention and not on_cpu,
        # Both are means of CUDA.
        use_async_batching=False if on_cpu else None,
        use_cuda_graph=False if on_cpu else None,
    )
