"""A model bundle by its own probabilities: the queries of its allow-list that it finds likeliest next, best first.

A served list is written greedily, each query after the others; these are the likeliest beginnings of a list. Where most shoppers searched once, as in a real log of
an extract, lists to learn from have a query or two, and a model that learned them writes lists that the job refuses as too short. What
it knows of the next query is in these probabilities all the same. Nothing is filled up, and nothing is fitted.
"""

from collections.abc import Sequence

from inference.allow_list import FILE_NAME, AllowList
from inference.allowed_prefixes import Prefixes
from inference.model_bundle import ModelBundle
from inference.output import normalise
from training.log import Case, Log
from training.rankers.model import prompts_of


class Likeliest:
    def __init__(self, bundle: ModelBundle, name: str = ""):
        """Raises ValueError where the bundle has no allow-list."""
        path = bundle.path / FILE_NAME
        if not path.is_file():
            raise ValueError(
                f"{bundle.path} has no {FILE_NAME}: `aigq allow-list --out {path}` counts one from an archive"
            )
        self.name = name or f"{bundle.card.name}/{bundle.card.version}"
        self._bundle, self._prefixes = bundle, Prefixes.of(AllowList.read(path), bundle.tokenizer)

    def fit(self, log: Log) -> None:
        """The model stays as it is."""

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        import training  # noqa: F401  (before torch: see its docstring)
        from training.decoder import load_decoder
        from training.likeliest import likeliest

        prompts = prompts_of(self._bundle, cases)
        model = load_decoder(self._bundle)
        found = dict(likeliest(model, self._bundle.tokenizer, prompts, self._prefixes, count))
        return [tuple(dict.fromkeys(normalise(each.text) for each in found[i]))[:count] for i in range(len(cases))]
