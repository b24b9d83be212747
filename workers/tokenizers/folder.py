"""The tokenizer of a folder: `tokenizer.json` (byte-level BPE) and chat templates, as transformers reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from workers.formats.detect import TEMPLATE_FOLDER
from workers.formats.files import Files, LocalFiles, read_json, read_optional, read_text
from workers.tokenizers.byte_level import ControlToken, Vocabulary, spelled_bytes

TOKENIZER = "tokenizer.json"
#: No vocabulary has more tokens.
MAX_TOKENS = 1 << 22
#: Special tokens by their names in `tokenizer_config.json`, which templates use, too.
_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


def read_folder(folder: Path) -> Vocabulary:
    """Raises: SourceFailed; DeploymentFailed for a kind of tokenizer that is not known."""
    files = LocalFiles(folder)
    parts = read_tokenizer_json(files)
    require_byte_level(parts)
    config = {**read_optional(files, "special_tokens_map.json"), **read_optional(files, "tokenizer_config.json")}
    variables = {role: text for role in _ROLES if (text := _text(config.get(role)))}
    special = {*variables.values(), *map(_text, _listed(config.get("additional_special_tokens")))}
    control = {
        token["content"]: ControlToken(int(token["id"]), bool(token.get("lstrip")), bool(token.get("rstrip")))
        for token in parts["added_tokens"]
        if token["special"] or token["content"] in special
    }
    before, after = _around(parts)
    return Vocabulary(
        backend=_backend(parts, without=control),
        token_bytes=_bytes(parts, control),
        control=control,
        eos_ids=_eos_ids(files, control.get(variables.get("eos_token", ""))),
        before=before,
        after=after,
        templates=chat_templates(files, config),
        variables=variables,
        source=json.dumps([parts, before, after], sort_keys=True),
    )


def read_tokenizer_json(files: Files) -> dict[str, Any]:
    """Raises: SourceFailed; DeploymentFailed for a folder with a sentencepiece model instead."""
    if TOKENIZER not in files.sizes and "tokenizer.model" in files.sizes:
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"It has a sentencepiece model (tokenizer.model) and no {TOKENIZER}; supported: byte-level BPE.",
        )
    return read_json(files, TOKENIZER)


def require_byte_level(parts: Mapping[str, Any]) -> None:
    """Raises: DeploymentFailed for another kind of tokenizer."""
    decoder = parts.get("decoder") or {}
    kinds = {step.get("type") for step in decoder.get("decoders", [decoder])}
    if parts["model"]["type"] != "BPE" or kinds != {"ByteLevel"}:
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"Its tokenizer is {parts['model']['type']:.80} with the decoder {decoder.get('type')!s:.80}. Only "
            "byte-level BPE (BPE with ByteLevel) is supported; sentencepiece (Llama 2, Mistral 7B, Gemma, Phi-3) "
            "is not.",
        )


def chat_templates(files: Files, config: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name. Files take precedence over the configuration, which has one text, or a list of named ones."""
    within = f"{TEMPLATE_FOLDER}/"
    named = [name for name in files.sizes if name.startswith(within) and name.endswith(".jinja")]
    found = {name.removeprefix(within).removesuffix(".jinja"): read_text(files, name) for name in sorted(named)}
    if "chat_template.jinja" in files.sizes:
        found["default"] = read_text(files, "chat_template.jinja")
    if found:
        return found
    templates = config.get("chat_template")
    listed = {one["name"]: one["template"] for one in templates} if isinstance(templates, list) else templates
    if isinstance(listed, Mapping):
        return {str(name): str(text) for name, text in listed.items()}
    return {"default": listed} if isinstance(listed, str) and listed else {}


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


def _eos_ids(files: Files, of_tokenizer: ControlToken | None) -> tuple[int, ...]:
    """All ids that end an answer: those of the generation config, else of the model's, and the tokenizer's."""
    found = read_optional(files, "generation_config.json").get("eos_token_id")
    if found is None:
        found = read_optional(files, "config.json").get("eos_token_id")
    ids = [int(i) for i in (found if isinstance(found, list) else [] if found is None else [found])]
    return tuple(dict.fromkeys([*ids, *([] if of_tokenizer is None else [of_tokenizer.id])]))
