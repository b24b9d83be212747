"""A folder's tokenizer gives the ids that transformers gives for it; what can't be read is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from tests.tokenizers import CONTROL, CORPUS, NASTY, qwen2, save_folder, train
from workers.tokenizers.byte_level import ByteLevelTokenizer
from workers.tokenizers.encoder import SETTINGS, EncoderTokenizer
from workers.tokenizers.load import load_tokenizer, reading_tokenizer

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
BOS = processors.TemplateProcessing("<|bos|> $A", "<|bos|> $A $B", [("<|bos|>", 0)])
BOTH = processors.TemplateProcessing("<|bos|> $A <|eot|>", "$A $B", [("<|bos|>", 0), ("<|eot|>", 1)])


SENTENCEPIECE = '{"model": {"type": "BPE"}, "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]}}'


def trained(post_processor: Any = None) -> Tokenizer:
    tokenizer = train(BYTES)
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    return tokenizer


def ours(folder: Path) -> ByteLevelTokenizer:
    return cast(ByteLevelTokenizer, load_tokenizer(str(folder), "transformers"))


@pytest.mark.parametrize("of", ["bytes", "qwen2", "prefix"])
def test_texts_become_the_ids_that_transformers_gives(tmp_path: Path, of: str) -> None:
    made = {
        "bytes": trained,
        "qwen2": qwen2,
        "prefix": lambda: train(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    }
    folder = save_folder(tmp_path, made[of]())
    theirs, found = transformers.AutoTokenizer.from_pretrained(folder), ours(folder)
    for text in NASTY:
        ids = theirs(text, add_special_tokens=False).input_ids
        assert found.encode(text) == ids, text
        assert found.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False), text


@pytest.mark.parametrize(
    ("post_processor", "config"),
    [
        (None, {}),
        (BOS, {}),
        (BOTH, {}),
        (None, {"add_bos_token": True}),
        (BOS, {"add_bos_token": False}),
        (None, {"add_bos_token": True, "add_eos_token": True}),
        (None, {"add_bos_token": True, "bos_token": None}),
    ],
)
def test_a_prompt_gets_what_the_tokenizer_puts_around_it(
    tmp_path: Path, post_processor: Any, config: dict[str, Any]
) -> None:
    folder = save_folder(tmp_path, trained(post_processor), **config)
    theirs, found = transformers.AutoTokenizer.from_pretrained(folder), ours(folder)
    for text in ("Hi there", *NASTY):
        assert found.encode_prompt(text) == theirs(text).input_ids, text


def test_a_tokenizer_that_cuts_and_pads_does_not_do_so_here(tmp_path: Path) -> None:
    tokenizer = trained()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    assert len(ours(save_folder(tmp_path, tokenizer)).encode("many words " * 5)) > 16


def test_added_tokens_take_the_spaces_beside_them_and_special_ones_are_named_anywhere(tmp_path: Path) -> None:
    tokenizer = trained()
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<|call|>", normalized=False)])
    tokenizer.add_special_tokens(
        [AddedToken("<|end|>", rstrip=True, normalized=False), AddedToken("<|in|>", lstrip=True)]
    )
    template = "{{ messages[0].content }}<|end|>  \n<think>x  <|in|> y<|call|>"
    folder = save_folder(tmp_path, tokenizer, template=template, additional_special_tokens=["<|call|>"])
    theirs, found = transformers.AutoTokenizer.from_pretrained(folder), ours(folder)
    turns = [{"role": "user", "content": "a <think> b"}]
    assert found.render_chat(turns) == theirs.apply_chat_template(turns, return_dict=False)
    assert set(found.control) == {*CONTROL, "<|end|>", "<|in|>", "<|call|>"}
    assert found.decode(found.render_chat([{"role": "user", "content": "<|end|>"}])).startswith("<|end|>")
    found.templates.close()


def test_a_tokenizer_without_control_tokens_is_one(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = BYTES, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=BYTES.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    found = ours(save_folder(tmp_path, tokenizer, template="{{ messages[0].content }}"))
    assert found.decode(found.render_chat([{"role": "user", "content": "Hi <|bos|>"}])) == "Hi <|bos|>"
    assert found.eos_ids == ()
    found.templates.close()


@pytest.mark.parametrize(
    ("files", "reason", "says"),
    [
        ({}, FailureReason.MISSING_FILE, "no tokenizer.json"),
        ({"tokenizer.model": "x"}, FailureReason.UNSUPPORTED_ARCHITECTURE, "sentencepiece model"),
        ({"tokenizer.json": "{"}, FailureReason.CHECKSUM, "not valid JSON"),
        ({"tokenizer.json": "[" * 100_000}, FailureReason.CHECKSUM, "not valid JSON"),
        ({"tokenizer.json": "[]"}, FailureReason.CHECKSUM, "a JSON object"),
        ({"tokenizer.json": "{}"}, FailureReason.CHECKSUM, "is damaged"),
        (
            {"tokenizer.json": '{"model": {"type": "BPE"}, "decoder": {"type": "ByteLevel"}}'},
            FailureReason.CHECKSUM,
            "damaged",
        ),
        ({"tokenizer.json": SENTENCEPIECE}, FailureReason.UNSUPPORTED_ARCHITECTURE, "sentencepiece"),
    ],
)
def test_what_can_not_be_read_is_refused_before_anything_is_loaded(
    tmp_path: Path, files: dict[str, str], reason: FailureReason, says: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DeploymentFailed, match=says) as caught:
        load_tokenizer(str(tmp_path), "transformers")
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "changes",
    [
        {"added_tokens": [{"id": -1, "content": "x", "special": True}]},
        {"added_tokens": [{"id": 10**9, "content": "x", "special": True}]},
        {"added_tokens": [{"id": 5}]},
        {"added_tokens": None},
        {"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}},
        {"model": {"type": "BPE", "vocab": {"a": 10**30}, "merges": []}},
        {"model": {"type": "BPE", "vocab": [], "merges": 5}},
        {"post_processor": {"type": "TemplateProcessing", "single": 5}},
        {"pre_tokenizer": {"type": "Nothing"}},
    ],
)
def test_a_tokenizer_that_makes_no_sense_is_a_damaged_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_folder(tmp_path, trained())
    parts = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**parts, **changes}))
    with pytest.raises(DeploymentFailed) as caught:
        load_tokenizer(str(tmp_path), "transformers")
    assert caught.value.reason is FailureReason.CHECKSUM


def save_encoder(folder: Path, *, lower: bool, **config: Any) -> Path:
    """An encoder's folder with a vocabulary that tells large letters from small ones."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFC(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(["Hello hello HELLO World world ÄÖ äö"] * 5, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / SETTINGS[0]).write_text(json.dumps({"max_seq_length": 512, "do_lower_case": lower}))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "max_position_embeddings": 512, **config}))
    return folder


@pytest.mark.parametrize("lower", [True, False])
def test_an_encoder_hears_small_letters_if_its_settings_say_so(tmp_path: Path, lower: bool) -> None:
    tokenizer = EncoderTokenizer(save_encoder(tmp_path, lower=lower))
    large, small = tokenizer.encode(["Hello WORLD ÄÖ", "hello world äö"])
    assert (large == small) is lower
    assert tokenizer.wrap(small) == [1, *small, 2]
    assert tokenizer.unwrap([1, *small, 2]) == small


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({}, 512),
        ({"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}, 512),
        ({"max_position_embeddings": -1}, 0),
        ({"max_position_embeddings": None}, 0),
    ],
)
def test_an_encoder_takes_as_many_tokens_as_it_has_positions(tmp_path: Path, config: dict[str, Any], most: int) -> None:
    folder = save_encoder(tmp_path, lower=False, **config)
    (folder / SETTINGS[0]).unlink()
    assert EncoderTokenizer(folder).max_tokens == most


@pytest.mark.parametrize(
    ("positions", "told", "most"),
    [
        (512, {"max_seq_length": 256}, 256),
        (512, {"max_seq_length": 8192}, 512),
        (None, {"max_seq_length": 256}, 256),
        (512, {"max_seq_length": None}, 512),
        (512, {"max_seq_length": -1}, 512),
        (512, {"max_seq_length": 0}, 512),
        (512, {}, 512),
    ],
)
def test_an_encoder_takes_no_more_tokens_than_its_settings_say(
    tmp_path: Path, positions: int | None, told: dict[str, Any], most: int
) -> None:
    folder = save_encoder(tmp_path, lower=False, max_position_embeddings=positions)
    (folder / SETTINGS[0]).write_text(json.dumps(told))
    assert EncoderTokenizer(folder).max_tokens == most


@pytest.mark.parametrize("value", ["many", [256], {"of": "tokens"}, float("inf")])
def test_a_length_that_is_no_number_is_a_damaged_file(tmp_path: Path, value: Any) -> None:
    folder = save_encoder(tmp_path, lower=False)
    (folder / SETTINGS[0]).write_text(json.dumps({"max_seq_length": value}))
    with pytest.raises(DeploymentFailed) as caught, reading_tokenizer(folder):
        EncoderTokenizer(folder)
    assert caught.value.reason is FailureReason.CHECKSUM


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_an_encoder_are_read_where_sentence_transformers_reads_them(tmp_path: Path, name: str) -> None:
    folder = save_encoder(tmp_path, lower=False)
    (folder / SETTINGS[0]).unlink()
    (folder / SETTINGS[-1]).write_text(json.dumps({"max_seq_length": 16}))
    (folder / name).write_text(json.dumps({"max_seq_length": 128, "do_lower_case": True}))
    tokenizer = EncoderTokenizer(folder)
    assert tokenizer.max_tokens == 128, "the first of the files counts"
    assert tokenizer.encode(["Hello"]) == tokenizer.encode(["hello"])
