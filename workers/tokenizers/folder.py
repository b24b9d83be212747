"""The tokenizer of a folder: `tokenizer.json` (byte-level BPE) and chat templates, as transformers reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from workers.formats.detect import TEMPLATE_FOLDER
from workers.formats.files import LocalFiles, read_json
from workers.tokenizers.byte_level import ControlToken, Vocabulary, spelled_bytes

TOKENIZER = "tokenizer.json"
#: No vocabulary has more tokens.
MAX_TOKENS = 1 << 22
#: Special tokens by their names in `tokenizer_config.json`, which templates use, too.
_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


def read_folder(folder: Path) -> Vocabulary:
    """Raises: SourceFailed; DeploymentFailed for a kind of tokenizer that is not known."""
    parts = read_tokenizer_json(folder)
    decoder = parts.get("decoder") or {}
    kinds = {step.get("type") for step in decoder.get("decoders", [decoder])}
    if parts["model"]["type"] != "BPE" or kinds != {"ByteLevel"}:
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"The tokenizer of {folder.name} is {parts['model']['type']} with the decoder {decoder.get('type')}. Only "
            "byte-level BPE (BPE with ByteLevel) is supported; sentencepiece (Llama 2, Mistral 7B, Gemma, Phi-3) "
            "is not.",
        )
    config = {**read_optional(folder, "special_tokens_map.json"), **read_optional(folder, "tokenizer_config.json")}
    variables = {role: text for role in _ROLES if (text := _text(config.get(role)))}
    special = {*variables.values(), *map(_text, _listed(config.get("additional_special_tokens")))}
    control = {
        token["content"]: ControlToken(int(token["id"]), bool(token.get("lstrip")), bool(token.get("rstrip")))
        for token in parts["added_tokens"]
        if token["special"] or token["content"] in special
    }
    templates = _templates(folder, config)
    before, after = _around(parts)
    return Vocabulary(
        backend=_backend(parts, without=control),
        token_bytes=_bytes(parts, control),
        control=control,
        eos_ids=_eos_ids(folder, control.get(variables.get("eos_token", ""))),
        before=before,
        after=after,
        templates=templates,
        variables=variables,
        source=json.dumps([parts, before, after], sort_keys=True),
    )


def read_tokenizer_json(folder: Path) -> dict[str, Any]:
    """Raises: SourceFailed; DeploymentFailed for a folder with a sentencepiece model instead."""
    files = LocalFiles(folder)
    if TOKENIZER not in files.sizes and "tokenizer.model" in files.sizes:
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"{folder.name} has a sentencepiece model (tokenizer.model) and no {TOKENIZER}; supported: byte-level BPE.",
        )
    return read_json(files, TOKENIZER)


def read_optional(folder: Path, name: str) -> dict[str, Any]:
    """An object from a file, empty if there is none. Raises: SourceFailed."""
    files = LocalFiles(folder)
    return read_json(files, name) if name in files.sizes else {}


def _text(token: Any) -> str:
    """Tokens are texts, or objects with a text."""
    found = token.get("content") if isinstance(token, Mapping) else token
    return found if isinstance(found, str) else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _backend(parts: Mapping[str, Any], *, without: Mapping[str, Any] = {}, **changes: Any) -> Any:
    """A `tokenizers.Tokenizer` without control tokens, so that text that looks like one stays text."""
    from tokenizers import Tokenizer as Backend

    added = [token for token in parts["added_tokens"] if token["content"] not in without]
    backend = Backend.from_str(json.dumps({**parts, "added_tokens": added, "post_processor": None, **changes}))
    backend.no_truncation()
    backend.no_padding()
    return backend


def _bytes(parts: Mapping[str, Any], control: Mapping[str, ControlToken]) -> list[bytes]:
    vocabulary: dict[str, int] = parts["model"]["vocab"]
    added = {int(token["id"]): token["content"] for token in parts["added_tokens"]}
    ids = [*vocabulary.values(), *added]
    if not all(0 <= i < MAX_TOKENS for i in ids):
        raise ValueError(f"its token ids are not within {MAX_TOKENS}")
    found = [b""] * (max(ids, default=-1) + 1)
    for i, spelled in zip(vocabulary.values(), spelled_bytes(vocabulary), strict=True):
        found[i] = spelled
    for i, text in added.items():
        found[i] = b"" if text in control else text.encode()
    return found


def _around(parts: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The tokens that the post-processor puts before and after a text."""
    if not parts.get("post_processor"):
        return [], []
    backend = _backend(parts, post_processor=parts["post_processor"])
    plain, full = backend.encode("a", add_special_tokens=False).ids, backend.encode("a").ids
    at = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), 0)
    return full[:at], full[at + len(plain) :]


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name. Files take precedence over the configuration, which has one text, or a list of named ones."""
    found = {path.stem: path.read_text("utf-8") for path in sorted((folder / TEMPLATE_FOLDER).glob("*.jinja"))}
    if (file := folder / "chat_template.jinja").is_file():
        found["default"] = file.read_text("utf-8")
    if found:
        return found
    templates = config.get("chat_template")
    named = {one["name"]: one["template"] for one in templates} if isinstance(templates, list) else templates
    if isinstance(named, Mapping):
        return {str(name): str(text) for name, text in named.items()}
    return {"default": named} if isinstance(named, str) and named else {}


def _eos_ids(folder: Path, of_tokenizer: ControlToken | None) -> tuple[int, ...]:
    """All ids that end an answer: those of the generation config, else of the model's, and the tokenizer's."""
    found = read_optional(folder, "generation_config.json").get("eos_token_id")
    if found is None:
        found = read_optional(folder, "config.json").get("eos_token_id")
    ids = [int(i) for i in (found if isinstance(found, list) else [] if found is None else [found])]
    return tuple(dict.fromkeys([*ids, *([] if of_tokenizer is None else [of_tokenizer.id])]))
