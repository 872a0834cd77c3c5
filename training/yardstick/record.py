"""What a model hits goes onto its card: `aigq models list` shows it, and whoever gets the bundle reads it there."""

import os
from pathlib import Path

import msgspec

from inference.model_bundle import ModelCard
from training.yardstick.metrics import PRIMARY
from training.yardstick.results import VALID, Part


def record(bundle: Path, part: Part) -> None:
    """Adds the judged model's figures and those that it has to be compared with. The bundle's digest is another one then."""
    values = {(row.model, row.metric): row.value for row in part.rows if row.split == "all"}
    found = {
        "hr_10": values[part.direct, PRIMARY],
        "valid_lists": values[part.direct, VALID],
        "popularity_hr_10": values.get(("popularity", PRIMARY)),
        "best_baseline_hr_10": values.get((part.base, PRIMARY)),
    }
    path = bundle / "card.json"
    card = msgspec.json.decode(path.read_bytes(), type=ModelCard)
    known = {name: round(value, 4) for name, value in found.items() if value is not None}
    writing = path.with_suffix(".writing")
    told = msgspec.structs.replace(card, metrics=card.metrics | known)
    writing.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    os.replace(writing, path)
