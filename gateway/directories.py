"""Where an installation has its files: those that ship with the code, its data, and its settings.

A checkout has all of them in itself. What is installed has data and settings where the platform has such things, never
in the current folder: whoever may write there must not say whom the admin key is sent to.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from platformdirs import PlatformDirs

from gateway.errors import InvalidSetting

_ROOT = Path(__file__).parents[1]
#: It is beside the packages in a checkout, and nowhere else.
_PROCFILE = "Procfile"
_DIRS = PlatformDirs("headrace", appauthor=False)


def checkout() -> Path | None:
    """The checkout whose code this is; None if it is installed."""
    return _ROOT if (_ROOT / _PROCFILE).exists() else None


def shipped() -> Path:
    """The folder of what ships with the code and is no module: the Procfile, gRPC's `proto/`.

    Raises:
        InvalidSetting: the installation is damaged.
    """
    if found := checkout():
        return found
    for file in metadata.files("headrace") or ():
        path = Path(str(file.locate()))
        if file.name == _PROCFILE and path.exists():
            return path.resolve().parent
    raise InvalidSetting("Headrace's Procfile is missing beside its packages. Install headrace again.")


def default_data_dir() -> Path:
    """Where data lies unless HEADRACE_DATA_DIR says it. Raises: InvalidSetting if this user has no home folder."""
    if found := checkout():
        return found / "var"
    try:
        return _DIRS.user_data_path
    except RuntimeError as error:
        raise InvalidSetting("This user has no home folder. Set HEADRACE_DATA_DIR to a folder for data.") from error


def default_config() -> Path:
    """The file of settings unless HEADRACE_CONFIG names one. A user without a home folder has the machine's."""
    try:
        folder = checkout() or _DIRS.user_config_path
    except RuntimeError:
        folder = _DIRS.site_config_path
    return folder / "headrace.toml"
