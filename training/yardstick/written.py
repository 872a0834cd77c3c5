"""What a model wrote for some cases, as a source of candidates: a frozen model's lists depend on no day, so they are written at once."""

from collections.abc import Sequence

from training.log import Case, Log, Ranker, hidden


class WrittenLists:
    """The model's own queries, without the popularity that fills a contender's empty places."""

    def __init__(self, model: Ranker, cases: Sequence[Case], count: int):
        """`model` must not have been fitted: only then it fills nothing."""
        self.name = model.name
        lists = model.rank([hidden(case) for case in cases], count)
        self._lists = {(case.user, case.as_of_ms): each for case, each in zip(cases, lists, strict=True)}

    def has(self, case: Case) -> bool:
        """Whether the model was asked for this case."""
        return (case.user, case.as_of_ms) in self._lists

    def fit(self, log: Log) -> None:
        """The model stays as it is."""

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        return [self._lists.get((case.user, case.as_of_ms), ())[:count] for case in cases]
