"""sentence-transformers in process, `python -m tests.bench.library`: texts (a JSON list a line) in, seconds out."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings


def main() -> None:
    """Serve runs until stdin closes, with as many threads as the embedding engine takes."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    from sentence_transformers import SentenceTransformer

    from gateway.models.catalog import load_catalog
    from gateway.settings import Settings
    from tests.bench.embeddings import MODEL

    torch.set_num_threads(os.cpu_count() or 1)
    path = load_catalog(Settings.load({})).get(MODEL).path()
    model = SentenceTransformer(str(path), device="cpu")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.perf_counter()
        vectors = model.encode(texts)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "vectors": len(vectors)}), flush=True)


if __name__ == "__main__":
    main()
