"""A tokenizer as a GGUF file describes it (`tokenizer.ggml.*`), read as llama.cpp reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from workers.formats.files import LocalFiles
from workers.formats.gguf import Header, read_header
from workers.tokenizers.byte_level import ControlToken, Vocabulary, spelled_bytes
from workers.tokenizers.pre_tokenizers import CUTS, Cut

#: Kinds of tokens, `tokenizer.ggml.token_type`.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
#: Fields whose tokens end an answer: of the text, of a turn, of a message.
_ENDS = ("eos", "eot", "eom")
#: Tokens with these names always end an answer, and are no text.
_NAMED_ENDS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|tool_response>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<turn|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<eos>",
    "[EOS]",
    "<EOT>",
    "_<EOT>",
    "< EOT >",
    "[EOT]",
    "[e~[",
)
#: (name, others): it ends no answer in a vocabulary with all of the others, but a part of it (harmony, Solar), or is
#: text.
_NO_ENDS = (
    ("<|end|>", {"<|return|>", "<|call|>"}),
    ("<|end|>", {"<|return|>", "<|calls|>"}),
    ("<|end|>", {"<|flush|>", "<|call|>"}),
    ("<|end|>", {"<|flush|>", "<|calls|>"}),
    ("</s>", {"<|tool_response>"}),
)
#: Names of tokens in templates, and in fields.
_VARIABLES = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",  # as the format spells it
    "pad_token": "padding",
    "cls_token": "cls",
    "mask_token": "mask",
}


def read_gguf(path: Path) -> Vocabulary:
    """Raises: DeploymentFailed by name for a kind of tokenizer that is not known; ValueError if it makes no sense."""
    header = read_header(LocalFiles(path), path.name)
    cut = require_known(header, path.name)
    tokens: list[str] = header.get("tokenizer.ggml.tokens", [])
    kinds: list[int] = header.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    named = {token: i for i, token in enumerate(tokens) if token in _NAMED_ENDS}
    no_ends = {named[name] for name, others in _NO_ENDS if name in named and others <= named.keys()}
    named_ends = set(named.values()) - no_ends
    control = {
        token: ControlToken(i)
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (CONTROL, UNKNOWN) or i in named_ends
    }
    added = [token for token, kind in zip(tokens, kinds, strict=True) if kind == USER_DEFINED and token not in control]
    found = {name: _id(header, name, tokens) for name in (*_ENDS, *_VARIABLES.values())}
    ids = {name: token_id for name, token_id in found.items() if token_id is not None}
    ends = [ids[name] for name in _ENDS if name in ids and ids[name] not in no_ends]
    around = {
        name: [ids[name]] if name in ids and header.get(f"tokenizer.ggml.add_{name}_token", by_default) else []
        for name, by_default in (("bos", cut.adds_bos), ("eos", False))
    }
    return Vocabulary(
        backend=_backend(tokens, header.get("tokenizer.ggml.merges", []), cut, added),
        token_bytes=_bytes(tokens, kinds, control),
        control=control,
        eos_ids=tuple(dict.fromkeys([*ends, *sorted(named_ends)])),
        before=around["bos"],
        after=around["eos"],
        templates=chat_templates(header),
        variables={variable: tokens[ids[name]] for variable, name in _VARIABLES.items() if name in ids},
        source="\0".join([str(header.get("tokenizer.ggml.pre")), *map(str, kinds), *tokens]),
    )


def require_known(header: Header, file: str) -> Cut:
    """How the file's tokenizer splits text. Raises: DeploymentFailed."""
    model, pre = header.get("tokenizer.ggml.model"), header.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"{file} has a tokenizer of the kind {model!r}; supported: 'gpt2' (byte-level BPE), as of Qwen, "
            "Llama 3 or SmolLM. Sentencepiece ('llama') runs in no format here.",
        )
    if pre not in CUTS:
        raise DeploymentFailed(
            FailureReason.UNSUPPORTED_ARCHITECTURE,
            f"{file} has a tokenizer that cuts text as {pre!r} does (tokenizer.ggml.pre), which is not known here; "
            f"known: {', '.join(CUTS)}.",
        )
    return CUTS[pre]


def _id(header: Header, name: str, tokens: Sequence[str]) -> int | None:
    """Raises: ValueError if there is no such token."""
    found = header.get(f"tokenizer.ggml.{name}_token_id")
    if found is None or found == 0xFFFFFFFF:  # "none"
        return None
    if not isinstance(found, int) or not 0 <= found < len(tokens):
        raise ValueError(f"its {name} token is {found!r}, of {len(tokens)}")
    return found


def _bytes(tokens: Sequence[str], kinds: Sequence[int], control: dict[str, ControlToken]) -> list[bytes]:
    """The bytes of each token. Added tokens are plain text; tokens of other kinds have none."""
    return [
        b"" if token in control else token.encode() if kind == USER_DEFINED else spelled if kind == NORMAL else b""
        for token, kind, spelled in zip(tokens, kinds, spelled_bytes(tokens), strict=True)
    ]


def chat_templates(header: Header) -> dict[str, str]:
    """By name; the one without a name is the default."""
    prefix = "tokenizer.chat_template"
    named = {name: name.removeprefix(prefix).removeprefix(".") for name in header.names if name.startswith(prefix)}
    found = {short or "default": header.get(name) for name, short in named.items() if short != "s"}
    return {name: text for name, text in found.items() if isinstance(text, str) and text}


def _backend(tokens: Sequence[str], merges: Sequence[str], cut: Cut, added: Sequence[str]) -> Any:
    from tokenizers import AddedToken, models, normalizers
    from tokenizers import Tokenizer as Backend

    # A merge is two tokens with a space between them; a token may begin with one.
    pairs = [(merge[: (at := merge.index(" ", 1))], merge[at + 1 :]) for merge in merges]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=cut.whole_pieces))
    if cut.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = cut.pre_tokenizer()
    backend.add_tokens([AddedToken(token, normalized=False) for token in added if token])
    return backend
