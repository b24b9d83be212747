"""Which kinds of models transformers knows, by the `model_type` of their configuration.

It is asked in a process that ends again, since who asks may be small.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from workers.engines.children import log_lines, parent, spawn
from workers.engines.failures import LoadFailed, Reason
from workers.engines.frames import FrameSocket

#: An answer takes some seconds, on a busy machine more.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class ModelTypes:
    """What one version of transformers knows."""

    version: str
    known: frozenset[str]
    #: Those that continue text.
    causal: frozenset[str]


def ask_model_types(env: Mapping[str, str], *, python: str = "") -> ModelTypes:
    """What the transformers of an interpreter knows. Raises: LoadFailed if it does not answer."""
    process, ours = spawn(__name__, python=python, env=env, stdout=subprocess.DEVNULL)
    try:
        with ours:
            told = FrameSocket(ours).receive(PATIENCE_S)
        return ModelTypes(told["version"], frozenset(told["known"]), frozenset(told["causal"]))
    except (OSError, EOFError) as error:
        raise LoadFailed(Reason.ENGINE_CRASHED, f"transformers does not say what it knows: {error}.") from error
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Answer, and end."""
    log_lines("types")
    frames = parent()
    # Without torch it knows the same names in half the time, and says that it has none.
    sys.modules["torch"] = None  # type: ignore[assignment] # as importlib writes that there is no such module
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    causal = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    frames.send({"version": transformers.__version__, "known": sorted(CONFIG_MAPPING_NAMES), "causal": causal})


if __name__ == "__main__":
    main()
