"""What a model hits, on its card."""

import msgspec

from inference.model_bundle import ModelBundle, ModelCard
from training.tiny import random_bundle
from training.yardstick.record import record
from training.yardstick.results import VALID, Part, Row


def test_the_card_says_what_the_model_hits_and_what_others_hit(tmp_path):
    bundle = random_bundle(tmp_path / "bundle")
    known = bundle.card.metrics

    def row(model: str, metric: str, value: float, split: str = "all") -> Row:
        return Row("m", split, model, "1", metric, value, value - 0.01, value + 0.01)

    rows = (
        row("tiny", "HR@10", 0.31234567),
        row("tiny", "HR@10", 0.9, split="warm"),
        row("tiny", VALID, 1.0),
        row("popularity", "HR@10", 0.25),
        row("blend", "HR@10", 0.33),
    )
    part = msgspec.convert(
        dict.fromkeys(("seed", "command", "date", "machine", "git_revision"), "")
        | {"market": "m", "null": False, "whole": True, "direct": "tiny", "models": ["tiny"], "base": "blend"}
        | {"cases": 1, "shoppers": 1, "facts": [], "fitted": [], "rows": []},
        Part,
    )
    record(bundle.path, msgspec.structs.replace(part, rows=rows))
    card = msgspec.json.decode((bundle.path / "card.json").read_bytes(), type=ModelCard)
    told = {"hr_10": 0.3123, "valid_lists": 1.0, "popularity_hr_10": 0.25, "best_baseline_hr_10": 0.33}
    assert card.metrics == known | told
    assert ModelBundle.open(bundle.path).card == card
