"""The contenders: rules and trained baselines that a model must beat, each a `training.log.Ranker`.

for ranker in contenders(["popularity-7d", "user-bigrams"]):
    ranker.fit(log)
    lists = ranker.rank(cases, 30)
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from training.log import Ranker

CONTENDERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "popularity-all": ("popularity", "popularity", ("popularity-all", None)),
    "popularity-7d": ("popularity", "popularity", ("popularity-7d", 7.0)),
    "popularity": ("popularity", "popularity_tuned", ("popularity",)),
    "repeats": ("repeats", "Repeats", ()),
    "session-bigrams": ("bigrams", "Bigrams", ("session",)),
    "user-bigrams": ("bigrams", "Bigrams", ("user",)),
    "item-sessions": ("cooccurrence", "Cooccurrence", ("items", "session")),
    "item-users": ("cooccurrence", "Cooccurrence", ("items", "user")),
    "category-users": ("cooccurrence", "Cooccurrence", ("categories", "user")),
    "query-sessions": ("cooccurrence", "Cooccurrence", ("queries", "session")),
    "query-users": ("cooccurrence", "Cooccurrence", ("queries", "user")),
    "tfidf": ("tfidf", "Tfidf", ()),
    "template": ("template", "Template", ()),
    "two-tower": ("two_tower", "TwoTower", ()),
    "blend": ("blend", "Blend", ()),
    "zero-shot": ("zero_shot", "ZeroShot", ()),
}
"""Name -> its module here, what makes it, and with what."""
SIMPLE = tuple(
    name
    for name, (module, _, _) in CONTENDERS.items()
    if module in ("popularity", "repeats", "bigrams", "cooccurrence")
)
"""Those that count: fitted in seconds, so statistics can be rebuilt daily."""
BLENDED = (
    "popularity repeats session-bigrams user-bigrams item-users category-users query-users tfidf template two-tower"
).split()
"""Sources of the blend's candidates."""
_RULES = ("repeats", "bigrams", "cooccurrence")


def contenders(
    names: Iterable[str], folder: Path = Path("build/written"), profiles: Mapping[str, Mapping[str, str]] | None = None
) -> list[Ranker]:
    """New rankers, not fitted. `folder` keeps what a language model wrote; `profiles` by user, as of the cut-off, are for the blend and the two-tower.
    The blend has those that stand beside it among its sources: what was fitted on a log for one is not fitted again for the other.
    Raises ValueError for a name that there is not. Imports only what is asked for."""
    names = list(names)
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise ValueError(f"no contender {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    made = {name: _made(name, folder, profiles) for name in names if name != "blend"}
    if "blend" in names:
        from training.rankers.blend import Blend

        early = [_made(name, folder, profiles) for name in BLENDED]
        made["blend"] = Blend([made.get(name) or _made(name, folder, profiles) for name in BLENDED], early, profiles)
    return [made[name] for name in names]


def _made(name: str, folder: Path, profiles: Mapping[str, Mapping[str, str]] | None) -> Ranker:
    module, maker, arguments = CONTENDERS[name]
    make: Callable[..., Any] = getattr(import_module(f"training.rankers.{module}"), maker)
    if name == "two-tower":
        return make(profiles=profiles)
    if name == "zero-shot":
        return make(folder)
    if module not in _RULES:
        return make(*arguments)
    from training.rankers.tuned import TunedRanker

    return TunedRanker(name, make(*arguments))
