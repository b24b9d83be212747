"""A GGUF file's tokenizer gives the ids of the tokenizer that it was made of, and reads what else the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.errors import ContextTooLong
from tests.tokenizers import NASTY, cut_by, save_folder, train, write_gguf
from workers.tokenizers.byte_level import ByteLevelTokenizer
from workers.tokenizers.load import load_tokenizer
from workers.tokenizers.pre_tokenizers import CUTS

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
PLAIN_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def several(*steps: Any) -> Any:
    return pre_tokenizers.Sequence(list(steps))


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


#: What cuts text in the models' own `tokenizer.json`, where transformers has no table of it.
OWN: dict[str, Any] = {
    **dict.fromkeys(("gpt-2", "phi-2"), BYTES),
    **dict.fromkeys(("smollm", "starcoder", "refact"), several(pre_tokenizers.Digits(individual_digits=True), BYTES)),
    "falcon": several(
        pre_tokenizers.Punctuation("contiguous"),
        BYTES,
        pre_tokenizers.Digits(individual_digits=False),
        split("[0-9][0-9][0-9]"),
    ),
    "deepseek-coder": several(
        split("[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split("[一-龥ࠀ-一가-퟿]+"),
        pre_tokenizers.Digits(individual_digits=True),
        PLAIN_BYTES,
    ),
    "deepseek-v3": several(
        split(r"\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),
        split(
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
        ),
        PLAIN_BYTES,
    ),
    "seed-coder": cut_by(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


@pytest.mark.parametrize("pre", CUTS)
def test_text_is_cut_as_the_models_own_tokenizer_cuts_it(tmp_path: Path, pre: str) -> None:
    normalizer = normalizers.NFC() if pre in ("qwen2", "qwen35") else None
    oracle = train(OWN.get(pre) or cut_by(GGUF_PRE_TOKENIZER_SPLITS[pre]), normalizer=normalizer)
    ours = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", oracle, pre)), "openvino")
    for text in NASTY:
        ids = ours.encode(text)
        assert ids == oracle.encode(text, add_special_tokens=False).ids, text
        assert ours.decode(ids) == (normalizer.normalize_str(text) if normalizer else text)


def test_an_autotokenizer_that_reads_the_same_file_agrees(tmp_path: Path) -> None:
    import transformers

    path = write_gguf(tmp_path / "a.gguf", train(cut_by(GGUF_PRE_TOKENIZER_SPLITS["llama-bpe"])), "llama-bpe")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    ours = load_tokenizer(str(path), "openvino")
    assert [ours.encode(text) for text in NASTY] == [theirs(text, add_special_tokens=False).input_ids for text in NASTY]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pre": "cuneiform"}, "cuts text as 'cuneiform' does"),
        ({"pre": None}, "cuts text as None does"),
        ({"pre": "default"}, "cuts text as 'default' does"),
        ({"model": "llama", "pre": "default"}, "a tokenizer of the kind 'llama'"),
        ({"model": None}, "a tokenizer of the kind None"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", train(BYTES), **{"pre": "gpt-2", **fields})
    with pytest.raises(DeploymentFailed, match=says) as caught:
        load_tokenizer(str(path), "openvino")
    assert caught.value.reason is FailureReason.UNSUPPORTED_ARCHITECTURE


@pytest.mark.parametrize(
    "fields",
    [
        {"merges": ["no such", "tokens here"]},
        {"merges": ["nospace"]},
        {"token_type": [1, 2, 3]},
        {"eos_token_id": 10**9},
        {"tokens": [1, 2, 3]},
        {"merges": None, "tokens": None},
    ],
)
def test_a_tokenizer_that_makes_no_sense_is_a_damaged_file(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = write_gguf(tmp_path / "a.gguf", train(BYTES), "gpt-2", **fields)
    with pytest.raises(DeploymentFailed) as caught:
        load_tokenizer(str(path), "openvino")
    assert caught.value.reason is FailureReason.CHECKSUM


@pytest.mark.parametrize(
    ("pre", "fields", "before", "after"),
    [
        ("gpt-2", {}, [], []),
        ("gpt-2", {"add_bos_token": True}, [0], []),
        ("gpt-2", {"add_bos_token": True, "bos_token_id": None}, [], []),
        ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, [0], [1]),
        ("llama-bpe", {}, [0], []),
        ("llama-bpe", {"add_bos_token": False}, [], []),
        ("tekken", {}, [0], []),
        ("gpt-2", {"add_space_prefix": True}, [], []),
    ],
)
def test_prompts_begin_and_end_as_the_file_says(
    tmp_path: Path, pre: str, fields: dict[str, Any], before: list[int], after: list[int]
) -> None:
    ours = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", train(BYTES), pre, **fields)), "openvino")
    assert ours.encode_prompt("Hi there") == [*before, *ours.encode("Hi there"), *after]


def test_added_tokens_are_whole_and_their_bytes_are_their_text(tmp_path: Path) -> None:
    added = ["<think>", "<a b>", "  ", "▁▁", "ß<x>"]
    oracle = train(BYTES, extra=added)
    path = write_gguf(tmp_path / "a.gguf", oracle, "gpt-2", kinds=dict.fromkeys(added, 4))
    ours = load_tokenizer(str(path), "openvino")
    for token in added:
        i = oracle.token_to_id(token)
        assert ours.encode(token) == [i]
        assert ours.token_bytes(i) == token.encode()
    assert ours.decode(ours.encode("x<think>y<a b>z")) == "x<think>y<a b>z"


def test_control_tokens_are_no_text_whatever_a_user_writes(tmp_path: Path) -> None:
    ours = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", train(BYTES), "gpt-2")), "openvino")
    ids = ours.encode_prompt("a<|eot|>b")
    assert not {0, 1} & set(ids)
    assert ours.decode(ids) == "a<|eot|>b"
    assert ours.token_bytes(1) == b""


@pytest.mark.parametrize("name", ["eos", "eot", "eom"])
def test_all_kinds_of_ends_end_an_answer(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", train(BYTES), "gpt-2", **{"eos_token_id": None, f"{name}_token_id": 1})
    assert load_tokenizer(str(path), "openvino").eos_ids == (1,)


@pytest.mark.parametrize(
    "name",
    [
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|eom_id|>", "<|endoftext|>", "</s>", "<eos>"),
        *("<|call|>", "<|calls|>", "<|flush|>", "[EOT]", "[EOS]", "<turn|>", "<|tool_response>", "[e~["),
    ],
)
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_tokens_with_the_names_of_ends_end_an_answer(tmp_path: Path, name: str, kind: int) -> None:
    oracle = train(BYTES, extra=[name])
    ours = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", oracle, "gpt-2", kinds={name: kind})), "openvino")
    end = oracle.token_to_id(name)
    assert set(ours.eos_ids) == {1, end}
    assert ours.token_bytes(end) == b""
    assert end not in ours.encode(name)


@pytest.mark.parametrize(
    ("no_end", "others"),
    [
        ("<|end|>", ["<|return|>", "<|call|>"]),
        ("<|end|>", ["<|return|>", "<|calls|>"]),
        ("<|end|>", ["<|flush|>", "<|call|>"]),
        ("<|end|>", ["<|flush|>", "<|calls|>"]),
        ("</s>", ["<|tool_response>"]),
    ],
)
@pytest.mark.parametrize("field", [None, "eot_token_id"])
def test_what_ends_only_a_part_of_an_answer_is_no_end_beside_those_that_do(
    tmp_path: Path, no_end: str, others: list[str], field: str | None
) -> None:
    extra = [no_end, *others]
    oracle = train(BYTES, extra=extra)
    fields = {field: oracle.token_to_id(no_end)} if field else {}
    path = write_gguf(tmp_path / "a.gguf", oracle, "gpt-2", kinds=dict.fromkeys(extra, 3), **fields)
    ours = load_tokenizer(str(path), "openvino")
    assert set(ours.eos_ids) == {1, *map(oracle.token_to_id, others)}
    assert ours.token_bytes(oracle.token_to_id(no_end)) == b"", "it is a control token all the same"


@pytest.mark.parametrize("others", [["<|return|>"], ["<|call|>"], ["<|calls|>"], ["<|return|>", "<|flush|>"]])
def test_one_of_those_alone_leaves_it_an_end(tmp_path: Path, others: list[str]) -> None:
    oracle = train(BYTES, extra=["<|end|>", *others])
    ours = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", oracle, "gpt-2")), "openvino")
    assert set(ours.eos_ids) == {1, *map(oracle.token_to_id, ["<|end|>", *others])}


def test_templates_have_names(tmp_path: Path) -> None:
    fields = {"chat_template": "d", "chat_template.tool_use": "{{ tools }}", "chat_templates": ["tool_use"]}
    ours = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", train(BYTES), "gpt-2", **fields)), "openvino")
    assert isinstance(ours, ByteLevelTokenizer)
    assert ours.templates.templates == {"default": "d", "tool_use": "{{ tools }}"}


def test_a_prompt_that_is_much_too_long_is_refused_before_it_is_tokenized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", train(BYTES), "gpt-2")), "openvino")
    assert isinstance(ours, ByteLevelTokenizer)
    assert len(ours.encode_prompt("word " * 200, most=100)) > 100

    def tokenize(text: str) -> list[int]:
        raise AssertionError("it was tokenized")

    monkeypatch.setattr(ours, "encode", tokenize)
    with pytest.raises(ContextTooLong, match="maximum context length is 100 tokens"):
        ours.encode_prompt("word " * 100_000, most=100)


def test_a_folder_and_a_gguf_file_of_one_tokenizer_agree(tmp_path: Path) -> None:
    oracle = train(BYTES)
    of_gguf = load_tokenizer(str(write_gguf(tmp_path / "a.gguf", oracle, "gpt-2")), "openvino")
    of_folder = load_tokenizer(str(save_folder(tmp_path / "folder", oracle)), "transformers")
    assert [of_gguf.encode(text) for text in NASTY] == [of_folder.encode(text) for text in NASTY]
    assert of_gguf.eos_ids == of_folder.eos_ids
