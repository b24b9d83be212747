"""Text of token ids, one push at a time: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import itertools

import pytest

from workers.tokenizers.detokenizer import IncrementalDetokenizer, Offsets


class Bytes:
    """A tokenizer whose tokens are pieces of bytes, numbered from 0."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def token_bytes(self, token_id: int) -> bytes:
        return self.pieces[token_id]


def pushed(pieces: list[bytes], *stop: str, at_once: int = 1) -> tuple[list[str], bool, int]:
    """The texts of each push, whether a stop string has matched, and how many tokens count."""
    text, texts, counted, stopped = IncrementalDetokenizer(Bytes(*pieces), stop), [], 0, False  # type: ignore[arg-type]
    ids = list(range(len(pieces)))
    for first in range(0, len(ids), at_once):
        final = first + at_once >= len(ids)
        ready, stopped, count = text.push(ids[first : first + at_once], final=final)
        texts.append(ready)
        counted += count
        if stopped:
            break
    return texts, stopped, counted


def test_a_character_comes_when_its_last_byte_is_there() -> None:
    euro, smile = "€".encode(), "🙂".encode()
    texts, stopped, counted = pushed([b"a", euro[:1], euro[1:2], euro[2:], smile[:2], smile[2:] + b"b"])
    assert texts == ["a", "", "", "€", "", "🙂b"]
    assert (stopped, counted) == (False, 6)


@pytest.mark.parametrize("stop", [(), ("nothing",)])
def test_half_a_character_at_the_end_is_given_out_as_what_it_is(stop: tuple[str, ...]) -> None:
    texts, _, counted = pushed([b"a", "€".encode()[:2]], *stop)
    assert "".join(texts) == "a\ufffd"
    assert counted == 2


def test_bytes_that_are_no_text_do_not_hold_up_what_follows() -> None:
    assert pushed([b"a", b"\xff", b"b"])[0] == ["a", "\ufffd", "b"]


def test_what_may_become_a_stop_string_is_held_back_until_it_can_not() -> None:
    assert pushed([b"one s", b"t", b"o", b"ne", b"."], "stop")[0] == ["one ", "", "", "stone", "."]


def test_a_held_beginning_of_a_stop_string_is_given_out_at_the_end() -> None:
    assert pushed([b"to st"], "stop") == (["to st"], False, 1)


def test_a_stop_string_over_several_tokens_is_no_part_of_the_text() -> None:
    texts, stopped, counted = pushed([b"go st", b"op", b" more"], "stop")
    assert texts == ["go ", ""]
    assert (stopped, counted) == (True, 2)


def test_tokens_behind_the_match_do_not_count_though_they_came_with_it() -> None:
    assert pushed([b"a", b"stop", b"b", b"c"], "stop", at_once=4) == (["a"], True, 2)


def test_the_first_of_several_stop_strings_ends_it() -> None:
    assert pushed([b"x END y stop"], "stop", "END") == (["x "], True, 1)
    assert pushed([b"abcd"], "cd", "bcd") == (["a"], True, 1)


def test_nothing_comes_after_a_match() -> None:
    text = IncrementalDetokenizer(Bytes(b"stop", b"x"), ["stop"])  # type: ignore[arg-type]
    assert text.push([0]) == ("", True, 1)
    assert text.push([1], final=True) == ("", True, 0)


@pytest.mark.parametrize("size", range(1, 8))
def test_the_text_is_the_same_however_its_bytes_are_cut_into_tokens(size: int) -> None:
    whole = "Ça coûte 3,50 € — 🙂 stop it".encode()
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    texts, stopped, _ = pushed(pieces, "stop")
    assert ("".join(texts), stopped) == ("Ça coûte 3,50 € — 🙂 ", True)
    assert "".join(pushed(pieces)[0]) == whole.decode()


def test_tokens_begin_where_the_characters_before_them_end() -> None:
    pieces = [b"a", *([byte] for byte in "€".encode()), "bü".encode(), b"c"]
    offsets = Offsets(first=10)
    assert [offsets.push(bytes(piece)) for piece in pieces] == [10, 11, 11, 11, 12, 14]


def test_any_text_with_any_stop_is_cut_at_its_first_occurrence() -> None:
    """All texts of two letters, against all stop strings, one letter a token."""
    for letters in itertools.product("ab", repeat=6):
        text = "".join(letters)
        for stop in ("a", "ab", "aba", "bb", "abab"):
            texts, stopped, _ = pushed([letter.encode() for letter in text], stop)
            assert ("".join(texts), stopped) == (text.partition(stop)[0], stop in text), (text, stop)
