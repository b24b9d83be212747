"""`joined.json` in the data folder: what a machine was given when it joined a gateway. It is a layer of its settings.

Variables and `headrace.toml` are over it. Knows nothing of what the settings mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.errors import InvalidSetting

#: Files of the machine's own key, its certificate and the gateway's CA lie in this folder of the data folder.
FOLDER = "joined"


def joined_path(data_dir: Path) -> Path:
    """The file in a data folder."""
    return data_dir / "joined.json"


def read_joined(data_dir: Path) -> dict[str, Any]:
    """`gateway`, the URL where it joined, and `settings`; empty if it has not joined. Raises: InvalidSetting."""
    path = joined_path(data_dir)
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"{path} can't be read: {error}. Join again, or remove the file.") from error
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise InvalidSetting(f"{path} is not what 'headrace join' writes. Join again, or remove the file.")
    return found
