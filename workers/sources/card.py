"""A model's card: what stands at the beginning of its README. It is text of others: nonsense says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from yaml import YAMLError  # type: ignore[import-untyped] # huggingface_hub reads cards with it

from workers.sources.model_footprint import DAMAGED

#: Bytes of a README that are read.
MAX_BYTES = 1 << 18
#: Characters of a license's name.
MAX_NAME = 100


def license_of(card: Any) -> str:
    """An SPDX identifier in lower case, or a license's own name; empty if the card (ModelCardData) says none."""
    found = getattr(card, "license", None)
    # One that is not on the hub's list.
    found = getattr(card, "license_name", None) or found if found == "other" else found
    return found if isinstance(found, str) and found.isprintable() and len(found) <= MAX_NAME else ""


def read_license(readme: Path) -> str:
    """The same of a file; empty also if there is none."""
    try:
        with readme.open("rb") as stream:
            text = stream.read(MAX_BYTES).decode(errors="replace")
        return license_of(ModelCard(text, ignore_metadata_errors=True).data)
    except (OSError, YAMLError, *DAMAGED):
        return ""
