"""A short digest of weights, so that a resume can tell whether it continues with the same ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from workers.engines.base import EngineConfig


def weights_digest(config: EngineConfig) -> str:
    """Of the weights as they are computed with: the quantization, and of each file the size, first and last MiB."""
    path = Path(config.model_path)
    digest = hashlib.sha256(b"" if config.quantization == "none" else config.quantization.encode())
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, size - (1 << 20)))
            digest.update(stream.read())
    return digest.hexdigest()[:16]
