"""A transformers encoder as an engine: one vector for each sequence, many sequences in one forward pass.

Reads a sentence-transformers folder: `modules.json` says how token states become a vector. Options: `dtype` (`float32`;
`bfloat16` is 2.5 times as fast on a CPU that has it, and off by up to 4e-3), `threads`, `max_batch_tokens`.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from workers.engines.base import (
    EngineConfig,
    EngineInfo,
    EngineRequestError,
    Report,
    SequenceOutput,
    SequenceRequest,
    no_report,
    require_known,
    warm_up,
)
from workers.engines.batch_engine import BatchEngine
from workers.engines.failures import LoadFailed, Reason
from workers.engines.pytorch.batching import MAX_BATCH_TOKENS, Passes
from workers.engines.pytorch.pooling import read_modules
from workers.engines.weights import weights_digest

log = logging.getLogger("headrace.engine")


class EmbeddingEngine(BatchEngine[SequenceRequest]):
    """The encoder and what waits for it."""

    def __init__(self, config: EngineConfig, report: Report = no_report) -> None:
        super().__init__()
        report("model_initialization", 0, 1)
        folder, options = Path(config.model_path), config.options
        self._pooling, self._normalize = read_modules(lambda file: json.loads((folder / file).read_text()), folder.name)
        torch.set_num_threads(int(options.get("threads", 0)) or os.cpu_count() or 1)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        dtype = _dtype(config)
        self._device = torch.device(config.device.lower())
        self._model = AutoModel.from_pretrained(folder, dtype=dtype, local_files_only=True).to(self._device).eval()
        self._vocabulary = int(self._model.config.vocab_size)
        report("model_initialization", 1, 1)
        self._passes = Passes(int(options.get("max_batch_tokens", MAX_BATCH_TOKENS)))
        # The tokenizer, which reads the files, knows of models that begin to count behind their padding.
        positions = getattr(self._model.config, "max_position_embeddings", 0)
        self._length = min(config.context_length, positions) if positions > 0 else config.context_length
        slowest_s = warm_up(self, report, None)
        digest = weights_digest(config)
        self.info = EngineInfo("embedding", self._length, digest, ["embedding"], self._effective(), slowest_s)

    def add(self, request: SequenceRequest) -> None:
        """Let a sequence wait for its forward pass. Raises: EngineRequestError."""
        if request.sampling is not None:
            raise EngineRequestError("The embedding engine makes vectors, not text.")
        if not 1 <= len(request.prompt_ids) <= self._length:
            raise EngineRequestError(f"It has {len(request.prompt_ids)} tokens, of 1 to {self._length}.")
        require_known(request.prompt_ids, self._vocabulary)
        self._passes.add(request)
        self._held[request.sequence_id] = request

    def _withdraw(self, sequence_id: int, held: SequenceRequest) -> None:
        """Before its forward pass; none runs between two steps."""
        self._passes.remove(sequence_id)

    def _advance(self) -> list[SequenceOutput]:
        """One forward pass; each of its sequences is finished."""
        batch = self._passes.next_batch()
        if not batch:
            return []
        for request in batch:
            del self._held[request.sequence_id]
        begun = time.monotonic()
        outputs = self._together(batch)
        tokens = len(batch) * max(len(request.prompt_ids) for request in batch)
        self._passes.pace.note(time.monotonic() - begun, tokens=tokens, decoding=False)
        return outputs

    def _together(self, batch: Sequence[SequenceRequest]) -> list[SequenceOutput]:
        """The vectors of a batch. If it fails as a whole, each sequence has its turn alone."""
        try:
            vectors = self._embed([request.prompt_ids for request in batch]).cpu().numpy().astype("<f4", copy=False)
        except Exception as error:
            if len(batch) > 1:
                log.warning("%d sequences can't be embedded together, so each is alone: %r", len(batch), error)
                return [output for request in batch for output in self._together([request])]
            log.exception("sequence %d can't be embedded", batch[0].sequence_id)
            return [SequenceOutput(batch[0].sequence_id, [], None, "failed", f"The engine failed: {error!r:.300}")]
        return [
            SequenceOutput(request.sequence_id, [], None, "stop", vector=vector.tobytes())
            for request, vector in zip(batch, vectors, strict=True)
        ]

    def _effective(self) -> dict[str, Any]:
        return {
            "attention": self._model.config._attn_implementation,
            "quantization": str(self._model.dtype).removeprefix("torch."),
            "devices": [str(self._device)],
            "threads": torch.get_num_threads(),
            "kv_cache": False,
        }

    @torch.inference_mode()
    def _embed(self, sequences: list[Any]) -> torch.Tensor:
        """Vectors (B, H) in float32 of B sequences, padded to the longest, T."""
        shape = len(sequences), max(map(len, sequences))
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (B, T, H)
        if self._pooling == "cls":
            vectors = states[:, 0]
        else:
            weights = mask.unsqueeze(-1).float()  # (B, T, 1)
            vectors = (states * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(vectors, dim=1) if self._normalize else vectors


def _dtype(config: EngineConfig) -> torch.dtype:
    """Raises: LoadFailed for a quantization that encoders are not offered in."""
    if config.quantization == "bf16":
        return torch.bfloat16
    if config.quantization != "none":
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"The embedding engine can't make {config.quantization}; allowed: none, bf16.",
        )
    return cast(torch.dtype, getattr(torch, str(config.options.get("dtype", "float32"))))
