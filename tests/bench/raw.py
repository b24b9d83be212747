"""The raw engine in process, `python -m tests.bench.raw`: prompts (a JSON list a line) on stdin, results on stdout."""

from __future__ import annotations

import json
import sys
import time

from gateway.settings import Settings
from tests.bench.workload import MAX_TOKENS, MODEL, Sample, summary
from tests.engines import config_of, loaded_engine
from workers.engines.base import Engine, Sampling, SequenceRequest
from workers.tokenizers.load import Tokenizer, load_tokenizer


def run(engine: Engine, tokenizer: Tokenizer, prompts: list[str], max_tokens: int) -> list[Sample]:
    """Add all sequences, then step until all have ended. Tokenizing counts, as it does for the others."""
    samples: dict[int, Sample] = {}
    for i, prompt in enumerate(prompts):
        samples[i] = Sample(time.perf_counter())
        ids = tokenizer.render_chat([{"role": "user", "content": prompt}])
        engine.add(SequenceRequest(i, ids, Sampling(max_tokens, 0.0), tokenizer.eos_ids))
    while engine.has_work():
        outputs = engine.step()
        now = time.perf_counter()
        for output in outputs:
            samples[output.sequence_id].arrivals.append(now)
            samples[output.sequence_id].tokens += len(output.token_ids)
    return list(samples.values())


def main() -> None:
    """Serve runs until stdin closes."""
    settings = Settings.load({})
    config = config_of(MODEL, settings)
    engine, tokenizer = loaded_engine(config), load_tokenizer(config.model_path, config.engine)
    run(engine, tokenizer, ["warm up"] * 4, 16)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(summary(run(engine, tokenizer, json.loads(line), MAX_TOKENS))), flush=True)


if __name__ == "__main__":
    main()
