"""Draws the next token of each row by what that row asks for: all of a batch at once, on its device.

The noise of a draw is a function of seed, position in the answer, and token id alone (Gumbel's trick over a generator
that counts, see Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3"). So a seed gives the same answer whoever
shares the batch, and an answer goes on behind any of its tokens as if nothing had been.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from workers.engines.base import Likely, TokenLogprob
from workers.engines.pytorch.row import Row

#: Rows at once: each takes the vocabulary some eight times, in 32 bits. On a CPU that should stay in its cache.
_ROWS, _ROWS_ON_CPU = 64, 8
_64_BITS = 2**64 - 1

#: Changes the scores of rows in place, shape (B, V).
Change = Callable[[torch.Tensor, Sequence[Row]], None]


def draw(logits: torch.Tensor, rows: Sequence[Row], block: Change) -> torch.Tensor:
    """The next token of each row, shape (B,), by the model's scores of shape (B, V) in 32 bits, which stay as they are.

    Biases come first, then penalties, what forms forbid (`block`), the temperature, `top_k`, `top_p` and `min_p`.
    """
    size = _ROWS_ON_CPU if logits.device.type == "cpu" else _ROWS
    parts = [_draw(logits[at : at + size], rows[at : at + size], block) for at in range(0, len(rows), size)]
    return torch.cat(parts)


def logprobs(logits: torch.Tensor, ids: Sequence[int], most: int) -> list[TokenLogprob]:
    """Of these tokens, by scores of shape (T, V), each with the `most` likely ones."""
    found: list[TokenLogprob] = []
    for at in range(0, len(ids), _ROWS):
        found += _logprobs(logits[at : at + _ROWS], ids[at : at + _ROWS], most)
    return found


def noise(keys: Sequence[int], vocabulary: int, device: torch.device) -> torch.Tensor:
    """Gumbel noise of shape (len(keys), vocabulary), each row a function of its key of 64 bits (`key_of`)."""
    halves = numpy.array(keys, numpy.uint64).view(numpy.int32).reshape(-1, 2)
    first, second = torch.from_numpy(halves).to(device)[:, None].unbind(-1)
    mixed = _counters(vocabulary, device) ^ first
    # MurmurHash3's last mix, with the other half of the key in its middle.
    mixed.bitwise_xor_((mixed >> 16).bitwise_and_(0xFFFF)).mul_(_signed(0x85EBCA6B)).add_(second)
    mixed.bitwise_xor_((mixed >> 13).bitwise_and_(0x7FFFF)).mul_(_signed(0xC2B2AE35))
    mixed.bitwise_xor_((mixed >> 16).bitwise_and_(0xFFFF)).bitwise_and_(0x7FFFFFFF)
    # Uniform and never 0 or 1: then exponential, fine where that is small, which is where the likeliest tokens are.
    found = mixed.float().add_(0.5).mul_(2.0**-31).clamp_(max=1 - 2.0**-24)
    found.neg_().log1p_().neg_().log_().neg_()
    return found


def key_of(seed: int, position: int) -> int:
    """64 bits that name one draw: SplitMix64's numbers, of a generator that the seed has chosen."""
    return _mixed(_mixed(seed & _64_BITS) + (position + 1) * 0x9E3779B97F4A7C15)


def _draw(logits: torch.Tensor, rows: Sequence[Row], block: Change) -> torch.Tensor:
    scores = logits
    if any(row.changes_scores for row in rows):
        scores = logits.clone()
        _bias(scores, rows)
        _penalize(scores, rows)
        block(scores, rows)
    drawn = [at for at, row in enumerate(rows) if not row.sampling.greedy]
    if not drawn:
        return scores.argmax(-1)
    chosen = _drawn(scores[drawn], [rows[at] for at in drawn])
    if len(drawn) == len(rows):
        return chosen
    ids = scores.argmax(-1)
    ids[drawn] = chosen
    return ids


def _drawn(scores: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """The tokens of rows that are not greedy. The scores are changed."""
    device = scores.device
    scores /= torch.tensor([row.temperature for row in rows], device=device)[:, None]
    if any(row.sampling.top_k > 0 for row in rows):
        _keep_top_k(scores, [row.sampling.top_k for row in rows])
    keys = [key_of(row.seed, len(row.answer)) for row in rows]
    noised = noise(keys, scores.shape[-1], device).add_(scores)
    if any(row.sampling.min_p for row in rows):
        least = scores.amax(-1, keepdim=True) + torch.tensor([row.min_score for row in rows], device=device)[:, None]
        noised.masked_fill_(scores < least, -torch.inf)
    if any(row.top_p < 1 for row in rows):
        return _within_top_p(noised, scores, torch.tensor([row.top_p for row in rows], device=device))
    return noised.argmax(-1)


def _keep_top_k(scores: torch.Tensor, top_k: Sequence[int]) -> None:
    """Leave the k likeliest of each row, and those that are as likely as the last of them; all without a k."""
    ranks = [k if 0 < k < scores.shape[-1] else 0 for k in top_k]
    if not any(ranks):
        return
    best = scores.topk(max(ranks)).values
    last = best.gather(1, torch.tensor([max(0, k - 1) for k in ranks], device=scores.device)[:, None])
    unlimited = torch.tensor([not k for k in ranks], device=scores.device)[:, None]
    scores.masked_fill_(scores < last.masked_fill_(unlimited, -torch.inf), -torch.inf)


def _within_top_p(noised: torch.Tensor, scores: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The best of the noised among the tokens that are likelier than all but `top_p` of the mass, without sorting.

    A token is one of them if those that are likelier than it have less than that mass. If it is not, none that is less
    likely is one: few rounds lead to the token that a sort would have found.
    """
    chances, ids = scores.softmax(-1), noised.argmax(-1)
    rows = torch.arange(len(ids), device=scores.device)
    while True:
        score = scores.gather(1, ids[rows, None])
        above = torch.where(scores > score, chances, 0.0).sum(-1)
        beyond = (above >= top_p) & (top_p < 1)
        if not beyond.any():
            return ids
        rows, top_p, score, chances = rows[beyond], top_p[beyond], score[beyond], chances[beyond]
        noised, scores = noised[beyond], scores[beyond]
        noised.masked_fill_(scores <= score, -torch.inf)
        ids[rows] = noised.argmax(-1)


def _bias(scores: torch.Tensor, rows: Sequence[Row]) -> None:
    for index, values in _places(scores, ((at, row.bias_ids, row.bias) for at, row in enumerate(rows))):
        scores[index] += values


def _penalize(scores: torch.Tensor, rows: Sequence[Row]) -> None:
    """The repetition penalty is for tokens of prompt and answer; the others are for those of the answer."""
    for index, values in _places(
        scores,
        (
            (at, seen, numpy.full(len(seen), row.sampling.repetition_penalty))
            for at, row in enumerate(rows)
            if row.sampling.repetition_penalty != 1
            for seen in [row.seen()]
        ),
    ):
        old = scores[index]
        scores[index] = torch.where(old < 0, old * values, old / values)
    for index, values in _places(
        scores,
        (
            (at, ids, row.sampling.presence_penalty + row.sampling.frequency_penalty * counts)
            for at, row in enumerate(rows)
            if row.sampling.presence_penalty or row.sampling.frequency_penalty
            for ids, counts in [row.counts()]
        ),
    ):
        scores[index] -= values


def _places(
    scores: torch.Tensor, of_rows: Iterable[tuple[int, NDArray[Any], NDArray[Any]]]
) -> list[tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """The places of tokens in the scores, by row, and a value for each: one pair, or none if there are no tokens."""
    found = [(numpy.full(len(ids), at), ids, values) for at, ids, values in of_rows if len(ids)]
    if not found:
        return []
    at, ids, values = (torch.from_numpy(numpy.concatenate(part)).to(scores.device) for part in zip(*found, strict=True))
    return [((at, ids), values.to(scores.dtype))]


def _logprobs(logits: torch.Tensor, ids: Sequence[int], most: int) -> list[TokenLogprob]:
    found = logits.float().log_softmax(-1)
    chosen = found.gather(1, torch.tensor(ids, device=found.device)[:, None])[:, 0].tolist()
    if not most:
        return [TokenLogprob(logprob, ()) for logprob in chosen]
    best = found.topk(min(most, found.shape[-1]))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    likely = [[Likely(*pair) for pair in zip(*row, strict=True)] for row in rows]
    return [TokenLogprob(*one) for one in zip(chosen, likely, strict=True)]


@functools.lru_cache(maxsize=1)
def _counters(vocabulary: int, device: torch.device) -> torch.Tensor:
    """One number for each token id, far from those of its neighbours; shape (1, vocabulary)."""
    ids = torch.arange(vocabulary, dtype=torch.int32, device=device)
    return ids.mul_(_signed(0x9E3779B1))[None]


def _mixed(number: int) -> int:
    """SplitMix64's mix."""
    number &= _64_BITS
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _64_BITS
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _64_BITS
    return number ^ (number >> 31)


def _signed(number: int) -> int:
    """The same 32 bits."""
    return number - 2**32 if number >= 2**31 else number
