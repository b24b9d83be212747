"""Which variables of the environment the processes that we start are given: no more than they need.

An engine reads files of strangers with native code, and whoever gets hold of it must find no key there. So it is given
an allow-list, in which nothing is that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: What programs and libraries need to find files, languages, devices, and how many threads to use.
_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "TERM"),
        *("VIRTUAL_ENV", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "NNCF_CI"),
    }
)
_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "XDG_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_"),
    *("OV_", "OPENVINO_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "GLOO_", "TORCH", "PYTORCH_", "TRITON_"),
    *("TRANSFORMERS_", "TOKENIZERS_", "SAFETENSORS_", "ROCR_", "HIP_", "HSA_", "ZE_", "ZES_", "SYCL_", "ONEAPI_"),
    *("TBB_", "RAYON_"),
)
_SECRET = re.compile(r"TOKEN(?!IZERS)|SECRET|PASSW|CREDENTIAL|AUTH|(^|_)(API_?)?KEYS?($|_)")
#: The first admin key, which those need that let requests in.
BOOTSTRAP_KEY = "HEADRACE_BOOTSTRAP_KEY"


def public(environ: Mapping[str, str]) -> dict[str, str]:
    """What any process may see: no keys, no passwords, nothing that we don't know."""
    return {name: value for name, value in environ.items() if _is_public(name)}


def without_admin_key(environ: Mapping[str, str]) -> dict[str, str]:
    """Everything but the first admin key, which is empty: for those that need keys of others."""
    return {**environ, BOOTSTRAP_KEY: ""}


def with_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What is public, and our settings, without the first admin key: for those that use Redis and need no keys."""
    settings = {name: value for name, value in environ.items() if name.startswith("HEADRACE_")}
    return without_admin_key({**public(environ), **settings})


def of_process(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a process of the Procfile is given."""
    if name in ("web", "rpc"):
        return dict(environ)
    if name in ("agent", "provider"):  # keys of hubs and providers
        return without_admin_key(environ)
    if name == "flower":
        return with_settings(environ) | {key: value for key, value in environ.items() if key.startswith("FLOWER_")}
    return with_settings(environ)


def _is_public(name: str) -> bool:
    return (name in _NAMES or name.startswith(_PREFIXES)) and not _SECRET.search(name)
