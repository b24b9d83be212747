"""Loads a causal language model with transformers, whole or one rank's share, and its continuous batching manager."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
)
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils import logging
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from workers.engines.base import EngineConfig
from workers.engines.failures import LoadFailed, Reason
from workers.engines.pytorch.offload import keep_on_host
from workers.engines.pytorch.paced_scheduler import PACED
from workers.engines.pytorch.quantization import quantize
from workers.engines.pytorch.stepping import Stepping

#: Tokens of one block of the KV cache; flash attention takes no fewer.
PAGE_TOKENS, CUDA_PAGE_TOKENS = 32, 256
#: Prompt and decode tokens that one step may hold: on a CPU, on CUDA, and there with flash attention, which needs no
#: mask of so many tokens by all of the cache.
MAX_BATCHED_TOKENS, CUDA_BATCHED_TOKENS, FLASH_BATCHED_TOKENS = 512, 1024, 4096
#: Made of bfloat16 weights after loading.
QUANTIZED = ("int8", "int4")
_DTYPES = {"none": "auto", "bf16": "bfloat16", **dict.fromkeys(QUANTIZED, "bfloat16")}


def device_of(config: EngineConfig, rank: int = 0) -> torch.device:
    """The device of a rank: that of `config.device` (`CPU`, `cuda:1`) or, for rank N, the N-th behind it.

    Raises:
        LoadFailed: it is not the name of a device, or there are not so many.
    """
    wrong = f"The transformers engine runs on cpu and cuda, not on {config.device!r}."
    try:
        device = torch.device(config.device.lower())
    except RuntimeError as error:
        raise LoadFailed(Reason.UNSUPPORTED_OPTION, wrong) from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise LoadFailed(Reason.UNSUPPORTED_OPTION, wrong)
    index = (device.index or 0) + rank
    if index >= torch.cuda.device_count():
        raise LoadFailed(
            Reason.UNSUPPORTED_OPTION,
            f"There is no device cuda{index}; torch sees {torch.cuda.device_count()} CUDA devices.",
        )
    return torch.device("cuda", index)


def load_causal_lm(config: EngineConfig, rank: int = 0) -> Any:
    """The model on its device; with `tensor_parallel_size` above 1 this rank's share, once the ranks have met.

    Raises:
        LoadFailed: for an option, an architecture or files that it can't load.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    size = config.tensor_parallel_size
    torch.set_num_threads(int(config.options.get("threads", 0)) or max(1, (os.cpu_count() or 1) // size))
    device = device_of(config, rank)
    _check_options(config, device)
    _shape(config)
    shared = {"distributed_config": DistributedConfig(tp_size=size, tp_plan="auto")} if size > 1 else {}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            config.model_path,
            dtype=_DTYPES[config.quantization],
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **shared,
        )
    except SafetensorError as error:
        raise LoadFailed(Reason.CHECKSUM, f"A safetensors file is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        # What transformers itself says of files that are not there.
        raise LoadFailed(Reason.MISSING_FILE, str(error)) from error
    model, report = loaded
    # transformers goes on with random numbers in their place.
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        text = f"The files lack tensors of the model, or have them in another shape: {', '.join(wrong[:5])}."
        raise LoadFailed(Reason.MISSING_FILE, text)
    model.eval()
    if config.cpu_offload:
        return keep_on_host(model, device)
    if not shared:
        model.to(device)
    if config.quantization in QUANTIZED:
        quantize(model, config.quantization)
    return model


def check_shares(config: EngineConfig) -> None:
    """Whether the model can be split over `tensor_parallel_size` processes, before any is started.

    Raises:
        LoadFailed: it can't; the text says why.
    """
    size, device = config.tensor_parallel_size, device_of(config, config.tensor_parallel_size - 1)
    _check_options(config, device)
    accelerator = torch.accelerator.current_accelerator()
    text = _shape(config).get_text_config()
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
    raise LoadFailed(Reason.UNSUPPORTED_OPTION, f"tensor_parallel_size {size} can't be: {why}.")


def _check_options(config: EngineConfig, device: torch.device) -> None:
    """The same answers as `gateway/models/engines.py`, for who has not asked it."""
    if config.quantization not in _DTYPES:
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"The transformers engine can't make {config.quantization}; allowed: {', '.join(_DTYPES)}.",
        )
    if config.quantization in QUANTIZED and (config.tensor_parallel_size > 1 or config.cpu_offload):
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"{config.quantization} weights can neither be split over processes nor stay in the host's memory; "
            "allowed with tensor_parallel_size above 1 or cpu_offload: none, bf16.",
        )
    if config.cpu_offload and (device.type == "cpu" or config.tensor_parallel_size > 1):
        raise LoadFailed(
            Reason.UNSUPPORTED_OPTION,
            "cpu_offload is for one CUDA device: on a CPU all weights are in the host's memory already, and shares "
            "of a model stay on their devices.",
        )


def _shape(config: EngineConfig) -> Any:
    """The model's own config. Raises: LoadFailed if there is none, or transformers can't make text with it."""
    file = Path(config.model_path) / "config.json"
    if not file.exists():
        raise LoadFailed(Reason.MISSING_FILE, f"There is no config.json in {config.model_path}.")
    model_type = json.loads(file.read_text()).get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise LoadFailed(
            Reason.UNSUPPORTED_ARCHITECTURE,
            f"transformers {transformers.__version__} does not know models of type {model_type!r}, and code that "
            "comes with a model is never run.",
        )
    shape = AutoConfig.from_pretrained(config.model_path, local_files_only=True, trust_remote_code=False)
    if type(shape) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        text = f"A model of type {model_type!r} does not continue text."
        raise LoadFailed(Reason.UNSUPPORTED_ARCHITECTURE, text)
    return shape


def page_tokens(config: EngineConfig) -> int:
    """Tokens of one block of the KV cache."""
    return PAGE_TOKENS if device_of(config).type == "cpu" else CUDA_PAGE_TOKENS


def start_manager(
    model: Any, config: EngineConfig, outputs: SimpleQueue[Any], wake_up: threading.Event | None = None
) -> Any:
    """The manager of the model's batch, which steps in a thread of its own: a daemon, so that the process can end.

    What each step makes goes into `outputs`, as do the manager's own results. `wake_up` is what its idle loop waits
    for, up to 0.1 s at a time; by default it is set by new requests.
    """
    manager = model.init_continuous_batching(_drawn_by_us(), _batching(config))
    if wake_up is not None:
        manager._wake_up_loop = wake_up
    manager.output_router.output_queue = outputs
    manager.batch_processor = manager._create_batch_processor()
    Stepping(manager, outputs)
    manager.warmup()
    # The manager's thread is a daemon if its starter is one.
    starter = threading.Thread(target=manager.start, daemon=True)
    starter.start()
    starter.join()
    return manager


def _drawn_by_us() -> Any:
    """So the library processes no scores."""
    return GenerationConfig(do_sample=False, eos_token_id=-1)  # type: ignore[no-untyped-call]


def _batching(config: EngineConfig) -> ContinuousBatchingConfig:
    device = device_of(config)
    has_flash = config.use_flash_attention and _has_flash_attention(device)
    tokens = page_tokens(config)
    most = MAX_BATCHED_TOKENS if device.type == "cpu" else CUDA_BATCHED_TOKENS
    return ContinuousBatchingConfig(
        page_size=tokens,
        num_blocks=config.kv_blocks(tokens),
        max_batch_tokens=FLASH_BATCHED_TOKENS if has_flash else most,
        max_requests_per_batch=config.max_batch_size,
        # Of a sequence of full length: steps without prompts read the cache through a table of its blocks.
        max_blocks_per_request=-(-config.context_length // tokens) if has_flash else 0,
        scheduler_type=PACED if config.tensor_parallel_size == 1 else "fifo",
        auto_switch_to_flash=has_flash,
        # A grammar and the penalties must know the last token when the next step is prepared.
        use_async_batching=False,
        # Weights that come and go can't be part of a graph; nor pays one whose mask of attention has to be padded.
        use_cuda_graph=has_flash and not config.cpu_offload,
    )


def _has_flash_attention(device: torch.device) -> bool:
    """Whether its kernels are installed, and the device is one of those that they need: Ampere, or later."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    return bool(is_flash_attn_2_available() or is_flash_attn_3_available())
