"""The environment variables of the processes that we start: no more than they need.

An engine reads untrusted files with native code, so an attacker who takes it over must find no key there. It gets an
allow-list without anything that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: What programs and libraries need to find files, locales and devices, and to choose the number of threads.
_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "TERM"),
        *("VIRTUAL_ENV", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"),
    }
)
_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "XDG_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_"),
    *("OV_", "OPENVINO_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "GLOO_", "TORCH", "PYTORCH_", "TRITON_"),
    *("TRANSFORMERS_", "TOKENIZERS_", "SAFETENSORS_", "ROCR_", "HIP_", "HSA_", "ZE_", "ZES_", "SYCL_", "ONEAPI_"),
    *("TBB_", "RAYON_", "VLLM_"),
)
_SECRET = re.compile(r"TOKEN(?!IZERS)|SECRET|PASSW|CREDENTIAL|AUTH|(^|_)(API_?)?KEYS?($|_)")
#: How log lines look: processes without settings read it.
LOG_FORMAT = "HEADRACE_LOG_FORMAT"
#: Of a person at the command line; no process that it starts needs it.
API_KEY = "HEADRACE_API_KEY"
#: The first admin key. Only the processes that accept requests need it.
BOOTSTRAP_KEY = "HEADRACE_BOOTSTRAP_KEY"


def public(environ: Mapping[str, str]) -> dict[str, str]:
    """What any process may see: an allow-list without keys and passwords."""
    return {name: value for name, value in environ.items() if _is_public(name)}


def without_admin_key(environ: Mapping[str, str]) -> dict[str, str]:
    """Everything but the first admin key, which is set to empty: for processes that need the keys of providers."""
    return {**environ, BOOTSTRAP_KEY: ""}


def with_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The public variables and our settings, without the first admin key: for processes that use Redis."""
    settings = {name: value for name, value in environ.items() if name.startswith("HEADRACE_")}
    return without_admin_key({**public(environ), **settings})


def of_process(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process of the Procfile."""
    environ = {variable: value for variable, value in environ.items() if variable != API_KEY}
    if name in ("web", "rpc"):
        return environ
    if name in ("agent", "provider"):  # keys of hubs and providers
        return without_admin_key(environ)
    if name == "flower":
        return with_settings(environ) | {key: value for key, value in environ.items() if key.startswith("FLOWER_")}
    if name == "keeper":  # it exports traces
        return with_settings(environ) | {key: value for key, value in environ.items() if key.startswith("OTEL_")}
    return with_settings(environ)


def _is_public(name: str) -> bool:
    return name == LOG_FORMAT or ((name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name))
