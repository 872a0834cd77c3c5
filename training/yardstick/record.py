"""What a model hits goes onto its card: `aigq models list` shows it, and whoever gets the bundle reads it there."""

from pathlib import Path

import msgspec

from inference.model_bundle import ModelCard
from training.decoder import write_card
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
    card = msgspec.json.decode((bundle / "card.json").read_bytes(), type=ModelCard)
    known = {name: round(value, 4) for name, value in found.items() if value is not None}
    write_card(bundle, msgspec.structs.replace(card, metrics=card.metrics | known))
