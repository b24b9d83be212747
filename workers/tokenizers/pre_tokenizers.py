"""How text is split before byte-level BPE merges its pieces, by the names in GGUF files.

The patterns are those of the models' own `tokenizer.json`. Other names are refused: with the wrong
split a model still answers, but worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, pre_tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{0}|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{0}|"
)
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_SIGNS_AND_SLASHES = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"

LLAMA3 = _WORDS + r"\p{N}{1,3}" + _SIGNS + _SPACES
QWEN2 = _WORDS + r"\p{N}" + _SIGNS + _SPACES
QWEN35 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _SPACES
TEKKEN = _CASED.replace("{0}", "") + r"\p{N}" + _SIGNS_AND_SLASHES + _SPACES
GPT4O = _CASED.replace("{0}", _CONTRACTIONS + "?") + r"\p{N}{1,3}" + _SIGNS_AND_SLASHES + _SPACES
SEED_CODER = _WORDS + r"\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + _SPACES
DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    + _SPACES,
)
DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")


@dataclass(frozen=True)
class Cut:
    """One way to split text."""

    #: Patterns, each applied to the pieces of the one before; empty: GPT-2's own.
    patterns: Sequence[str] = ()
    #: First split off each digit.
    single_digits: bool = False
    #: First normalize the text (Unicode NFC).
    composes: bool = False
    #: A piece that is in the vocabulary is one token, whatever the merges say.
    whole_pieces: bool = False
    #: Prompts begin with BOS where the file does not say whether they do.
    adds_bos: bool = False

    def pre_tokenizer(self) -> Any:
        """For `tokenizers`."""
        steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if self.single_digits else []
        steps += [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns]
        bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not self.patterns)
        return pre_tokenizers.Sequence([*steps, bytes_of])


class FalconCut(Cut):
    """Falcon's, which splits numbers after the text is turned into bytes."""

    def pre_tokenizer(self) -> Any:
        """For `tokenizers`."""
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Punctuation("contiguous"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
                pre_tokenizers.Digits(individual_digits=False),
                pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
            ]
        )


_LLAMA3 = Cut([LLAMA3], whole_pieces=True, adds_bos=True)
_DIGITS = Cut(single_digits=True)
_GPT4O = Cut([GPT4O])
#: By `tokenizer.ggml.pre`.
CUTS: dict[str, Cut] = {
    **dict.fromkeys(("gpt-2", "phi-2"), Cut()),
    **dict.fromkeys(("smollm", "starcoder", "refact"), _DIGITS),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Cut([LLAMA3])),
    "qwen2": Cut([QWEN2], composes=True),
    **dict.fromkeys(("deepseek-r1-qwen", "megrez"), Cut([QWEN2])),
    "qwen35": Cut([QWEN35], composes=True),
    "tekken": Cut([TEKKEN], whole_pieces=True, adds_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT4O),
    "seed-coder": Cut([SEED_CODER]),
    "deepseek-v3": Cut(DEEPSEEK_V3),
    "deepseek-coder": Cut(DEEPSEEK_CODER),
    "falcon": FalconCut(),
}
