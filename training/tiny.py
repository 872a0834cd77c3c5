"""A bundle with random weights, for tests of everything around the model: made in a second, loads like a trained one.

Its answers are noise (mostly malformed lists): whoever needs real lists takes the shipped bundle.
"""

from pathlib import Path

from inference.model_bundle import ModelBundle, ModelCard
from inference.prompt import PROMPT_VERSION
from inference.vocabulary import train_tokenizer
from training.decoder import new_decoder, save_bundle

TEXTS = [
    "Please recommend the next 10 queries. Profile: {age: 44, gender: F, location: Austin}. Behaviours: dell laptop"
]


def random_bundle(path: str | Path, name: str = "tiny", version: str = "1", seed: int = 1) -> ModelBundle:
    """Writes the bundle to the folder `path` and opens it."""
    tokenizer = train_tokenizer(TEXTS, size=512)
    model = new_decoder(tokenizer, hidden=64, layers=1, seed=seed)
    card = ModelCard(
        name=name,
        version=version,
        prompt_version=PROMPT_VERSION,
        description="random weights, for tests",
        data="none",
        recipe={},
        metrics={},
        parameters=sum(p.numel() for p in model.parameters()),
        seed=seed,
        created="2026-01-01",
        git_revision="",
    )
    return save_bundle(Path(path), model, tokenizer, card)
