"""Secrets in the data folder: the bootstrap key, and passwords that were made."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gateway.process.start import private_folder
from gateway.settings import Settings


def secret_file(settings: Settings, name: str, given: str = "") -> str:
    """A secret in the data folder, with mode 0600: random the first time, or set to `given`."""
    path = settings.data_dir / "keys" / name
    private_folder(path.parent)
    if given or not path.exists():
        _write_private(path, given or f"hr-{secrets.token_urlsafe(32)}")
    return path.read_text().strip()


def bootstrap_file(settings: Settings) -> Path:
    """Where a bootstrap key lies that was made."""
    return settings.data_dir / "keys" / "bootstrap"


def bootstrap_key(settings: Settings) -> str:
    """The first admin key, if it is set or in the data folder; else empty."""
    path = bootstrap_file(settings)
    if settings.bootstrap_key or not path.exists():
        return settings.bootstrap_key
    return path.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        os.fchmod(stream.fileno(), 0o600)  # the file may have existed
        stream.write(text + "\n")
