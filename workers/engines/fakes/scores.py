"""The fake engine's likely tokens: functions of a name and a place alone, like its tokens. It says the first."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence

from workers.engines.base import Likely, Sampling, SequenceOutput, SequenceRequest, TokenLogprob

#: Tokens that are likely at a place, and the log probabilities of the first and of all that are not among them.
NUM_LIKELY, BEST, UNLIKELY = 21, -1.0, -25.0
#: What a request may ask for.
SCORES = frozenset({"logprobs", "top_logprobs", "prompt_logprobs", "logit_bias"})


def scored(
    request: SequenceRequest, sampling: Sampling, token: int, *, position: int, first: bool, vocabulary: int
) -> SequenceOutput:
    """The output with one token of an answer, or another that its bias prefers; and the prompt with the `first`."""
    output = SequenceOutput(request.sequence_id, [token])
    if not sampling.used() & SCORES:
        return output
    likely = likely_at(token, f"{request.key}#{position}", vocabulary=vocabulary)
    taken = chosen(likely, {} if sampling.grammar else sampling.logit_bias)
    output = output._replace(token_ids=[taken.token_id], logprobs=[taken.logprob] if sampling.logprobs else None)
    if sampling.top_logprobs:
        output = output._replace(likely=[likely[: sampling.top_logprobs]])
    if sampling.prompt_logprobs and first:
        ids = request.prompt_ids[: len(request.prompt_ids) - request.generated]
        output = output._replace(prompt=of_prompt(ids, sampling.top_logprobs, vocabulary=vocabulary))
    if sampling.max_tokens == 0:
        output = output._replace(token_ids=[], logprobs=None, likely=None)
    return output


def likely_at(first: int, place: str, *, vocabulary: int) -> list[Likely]:
    """The likely tokens of a place whose first is given, each less likely than the one before."""
    others = (zlib.crc32(f"{place}/{rank}".encode()) % vocabulary for rank in range(1, 2 * NUM_LIKELY))
    ids = list(dict.fromkeys([first, *others]))[:NUM_LIKELY]
    return [Likely(token_id, BEST - rank) for rank, token_id in enumerate(ids)]


def chosen(likely: Sequence[Likely], bias: Mapping[str, float]) -> Likely:
    """The token that comes, with its log probability as it is without the bias."""
    known = dict(likely)
    scores = {**known, **{int(name): known.get(int(name), UNLIKELY) + bias[name] for name in bias}}
    best = max(scores, key=lambda token_id: scores[token_id])
    return Likely(best, known.get(best, UNLIKELY))


def of_prompt(ids: Sequence[int], most: int, *, vocabulary: int) -> list[TokenLogprob]:
    """What the engine thinks of a prompt: each token is the second likeliest behind the one before."""
    found = [TokenLogprob(None, ())]
    for before, token_id in itertools.pairwise(ids):
        first, *others = likely_at(before, f"behind {before}", vocabulary=vocabulary)
        rest = [one.token_id for one in others if one.token_id != token_id]
        ranked = [first.token_id, *([] if token_id == first.token_id else [token_id]), *rest]
        likely = [Likely(one, BEST - rank) for rank, one in enumerate(ranked)]
        found.append(TokenLogprob(dict(likely)[token_id], likely[:most]))
    return found
