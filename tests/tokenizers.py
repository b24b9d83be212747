"""Small byte-level BPE vocabularies, trained here, in files of each format; and texts to hold tokenizers against."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

#: What cuts text in one way or another: signs, spaces, numbers, scripts, marks, and what is no text at all.
NASTY = [
    "",
    " ",
    "Hello, world!",
    "1234567 and 12,345.67 in 2024",
    "IT'S, we'll, don't, DON'T; they’re",
    "foo(bar):\n    return (bar.baz)\n\n",
    "\n\n\nthe  (quick)\r\n\r\nbrown\tfox   \n ",
    "   leading and trailing   ",
    "$HOME/bin //// ==> !!! ...?",
    "Grüße aus Zürich, cafe\u0301 \u1100\u1161\u11a8",
    "日本語のテキストと中文，还有한국어。",
    "مرحبا بالعالم ١٢٣ हिन्दी १२३",
    "😀😀 👩‍👩‍👧‍👦 🇩🇪 e\u0301\u0301\u0301",
    "x²y ½6789 №5 ٣٤٥",
    "ßẞİıſ ﬁ Ⅷ",
    "a\u200bb\u200d\ufeff\u00a0\u3000c",
    "\x00\x01\x7f\x80\ufdd0\uffff",
    "camelCaseAndHTTPServer XMLHttpRequest",
    "(a) [b] {c} <d> `e` ~f~ ^g|h",
    "word" * 50,
]
CORPUS = [*NASTY, "In 2024 we sold 1234567 units, 8901234 in 2023.\n\n", "the (quick) brown_fox; $HOME/bin\n\n\n"] * 20
CONTROL = ["<|bos|>", "<|eot|>"]


def cut_by(pattern: str) -> Any:
    """One pattern, then bytes: what most models do."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(pre_tokenizer: Any, *, normalizer: Any = None, extra: Sequence[str] = ()) -> Tokenizer:
    """A vocabulary of some hundred tokens: control tokens first, then bytes and what was merged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=[*CONTROL, *extra], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def qwen2() -> Tokenizer:
    """Trained as Qwen 2's was."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    return train(cut_by(PRETOKENIZE_REGEX), normalizer=normalizers.NFC())


def write_gguf(
    path: Path, tokenizer: Tokenizer, pre: str | None, *, kinds: Mapping[str, int] = {}, **fields: Any
) -> Path:
    """A GGUF file with this tokenizer and one tensor; `fields` are more of `tokenizer.ggml`, None leaves one out."""
    import gguf
    import numpy

    parts = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(parts["vocab"], key=parts["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in parts["merges"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    given = {"model": "gpt2", "pre": pre, "bos_token_id": 0, "eos_token_id": 1, "tokens": tokens, "merges": merges}
    given["token_type"] = [kinds.get(token, 3 if token in CONTROL else 1) for token in tokens]
    for name, value in {**given, **fields}.items():
        if value is None:
            continue
        key = name if name.startswith("chat_template") else f"ggml.{name}"
        kind = gguf.GGUFValueType.get_type(value)
        inner = gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
        writer.add_key_value(f"tokenizer.{key}", value, kind, sub_type=inner)
    writer.add_tensor("a", numpy.zeros((4, 4), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def save_folder(
    folder: Path, tokenizer: Tokenizer, *, template: Any = None, files: Mapping[str, str] = {}, **config: Any
) -> Path:
    """A folder that AutoTokenizer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": CONTROL[0], "eos_token": CONTROL[1], **config}
    if template is not None:
        told["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
