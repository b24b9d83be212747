"""A raw engine in process: prompts (a JSON list a line) on stdin, results on stdout.

`python -m tests.bench.raw MODEL CATALOG`: a model of the catalog, to which a headrace.toml may add, in the data folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.settings import Settings
from tests.bench.workload import MAX_TOKENS, Sample, summary
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


class Answers:
    """Lines of results on stdout, where libraries that write there can't spoil them."""

    def __enter__(self) -> Answers:
        self._lines = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def serve(self, ask: Callable[[list[str]], list[Sample]]) -> None:
        """Warm up, say so, and answer until stdin closes."""
        ask(["warm up"] * 4)
        self._write("ready")
        for line in sys.stdin:
            self._write(summary(ask(json.loads(line))))

    def _write(self, answer: object) -> None:
        print(json.dumps(answer), file=self._lines, flush=True)


def main() -> None:
    """Load the engine, then serve."""
    with Answers() as answers:
        model, catalog = sys.argv[1:]
        settings = Settings.load({"HEADRACE_CONFIG": catalog, "HEADRACE_DATA_DIR": str(Path(catalog).parent)})
        config = config_of(model, settings)
        engine, tokenizer = loaded_engine(config), load_tokenizer(config.model_path, config.engine)
        answers.serve(lambda texts: run(engine, tokenizer, texts, MAX_TOKENS))


if __name__ == "__main__":
    main()
    os._exit(0)  # an engine's threads may still run
