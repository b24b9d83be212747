"""How a sentence encoder makes one vector of a text's tokens, as its `modules.json` says it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workers.engines.failures import LoadFailed, Reason

_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def read_modules(read: Callable[[str], Any], name: str) -> tuple[str, bool]:
    """How a sentence-transformers folder pools (`mean` or `cls`), and whether it normalizes.

    `read` gives the JSON of a file of the folder, `name` is what errors call it.

    Raises:
        LoadFailed: it wants something that the engine can't do, or does not say what it wants.
    """
    try:
        modules = read("modules.json")
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            raise LoadFailed(
                Reason.UNSUPPORTED_ARCHITECTURE,
                f"{name} has the modules {kinds!s:.200}; supported: Transformer, Pooling, and then Normalize.",
            )
        pooling = read(f"{modules[1]['path']}/config.json")
        modes = [mode for mode, value in pooling.items() if mode.startswith("pooling_mode_") and value is True]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LoadFailed(
            Reason.CHECKSUM, f"modules.json of {name}, or what it names, is damaged: {error!r:.300}."
        ) from error
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise LoadFailed(
            Reason.UNSUPPORTED_ARCHITECTURE, f"{name} pools by {modes!s:.200}; supported: one of {sorted(_POOLINGS)}."
        )
    return _POOLINGS[modes[0]], kinds[-1] == "Normalize"
