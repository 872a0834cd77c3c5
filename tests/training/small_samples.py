"""A samples folder of a few shoppers, and a pretrained bundle, both made in seconds."""

from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from inference.prompt import build_prompt
from schemas import Behaviour
from training.sample_files import SCHEMAS

BRANDS = ("dell", "hp", "lenovo", "asus", "acer", "apple")
GOODS = ("laptop", "monitor", "dock", "keyboard", "mouse", "charger", "bag")
HOUR_MS = 3_600_000
QUERIES = [f"{brand} {good}" for brand in BRANDS for good in GOODS]


def sample(rng: Random, user: str, labels: int = 10) -> dict[str, object]:
    """What follows a brand is that brand again: something is there to be learned."""
    brand = rng.choice(BRANDS)
    behaviours = [
        Behaviour(i * HOUR_MS, i, rng.choice(("search", "click")), f"{brand} {rng.choice(GOODS)}")
        for i in range(rng.randint(1, 8))
    ]
    profile, as_of_ms = {"age": str(rng.randint(20, 70))}, len(behaviours) * HOUR_MS
    first = [f"{brand} {good}" for good in GOODS]
    chosen = (first + rng.sample([query for query in QUERIES if query not in first], 5))[:labels]
    plain = list(chosen)
    rng.shuffle(plain)
    return {
        "user": user,
        "exposure_id": f"{user} page",
        "as_of_ms": as_of_ms,
        "profile": profile,
        "behaviours": [
            dict(
                zip(
                    ("time_ms", "id", "kind", "text", "category"),
                    (b.time_ms, b.id, b.kind, b.text, b.category),
                    strict=True,
                )
            )
            for b in behaviours
        ],
        "prompt": build_prompt(profile, behaviours, as_of_ms),
        "labels": chosen,
        "label_from": ["ranked"] * len(chosen),
        "label_scores": [1.0] * len(chosen),
        "labels_plain": plain,
    }


def write_samples(folder: Path, count: int = 200, seed: int = 1) -> Path:
    rng = Random(seed)
    rows = [sample(rng, f"shopper {i}") for i in range(count)]
    at = folder / "direct" / "split=train"
    at.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMAS["direct"]), at / "part.parquet", compression="zstd")
    return folder
