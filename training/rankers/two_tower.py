"""Embedding-based retrieval: a shopper's newest behaviours and a query as two vectors, whose product is how likely the query is next.

Trained in torch on every search of the log (`net.py` in this folder is the network) by softmax over the queries of the batch and of drawn
hard negatives, corrected for how often each is drawn (Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019), so that
scores tend to log-probabilities among all known queries. It stops when the log's last days are not hit more often; then it is
trained on the whole log for as many rounds. Retrieval compares with all known queries.
"""

import training  # noqa: F401, I001  (before torch: see its docstring)
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import log_softmax
from torch import nn

from training.log import Case, Log
from training.rankers.moments import (
    DAY_MS,
    Moments,
    Newest,
    compact,
    known_queries,
    moments,
    newest_of,
    seen_of,
    text_numbers,
)
from training.rankers.net import Inputs, TowerShape, Towers, profile_values, text_features
from training.rankers.tfidf import top

VALIDATION_DAYS = 2
VALIDATED_ON = 4_000


@dataclass(frozen=True)
class Recipe:
    shape: TowerShape = field(default_factory=TowerShape)
    batch: int = 512
    negatives: int = 512
    """Drawn for a batch: half of them by popularity, half from the categories of its queries."""
    rounds: int = 12
    """At most, over all moments or `most` of them."""
    most: int = 300_000
    """Moments; the newest ones."""
    learning_rate: float = 0.004
    patience: int = 2
    """Rounds without a gain on the last days before it stops."""
    min_shoppers: int = 2
    seed: int = 0


class TwoTower:
    name = "two-tower"

    def __init__(self, recipe: Recipe | None = None, profiles: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """`profiles` by user, for the training moments, because a log has none; cases bring theirs."""
        self.recipe = recipe or Recipe()
        self.profiles = profiles or {}
        self.validated: list[float] = []
        """HR@10 on the log's last days, after each round."""

    def fit(self, log: Log) -> None:
        log = self.log = compact(log)
        self.numbers = text_numbers(log)
        self.known = known_queries(log, self.recipe.min_shoppers)
        self.queries = self.known.queries(log)
        self.number_of = {query: i for i, query in enumerate(self.queries)}
        self.fields = profile_values(self.profiles.values())
        if not self.queries:
            return
        every = moments(log)
        truth = self.known.of_text[log.text[every.row]]
        every = Moments(every.row[truth >= 0], every.seen[truth >= 0])
        late = log.time_ms[every.row] >= int(log.time_ms[-1]) - VALIDATION_DAYS * DAY_MS
        rounds = 3
        if late.sum() >= 200 and (~late).sum() >= 200:
            rounds = self._train(_some(every, ~late), self.recipe.rounds, _some(every, late))
        self._train(every, rounds, None)

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        if not self.queries:
            return [() for _ in cases]
        best = [top(scores, count) for scores in self._scores(cases)]
        return [tuple(self.queries[j] for j in row) for rows in best for row in rows]

    def pair_scores(self, cases: Sequence[Case], of_case: np.ndarray, queries: Sequence[str]) -> np.ndarray:
        """Log-probability of each case's query among the known ones; NaN for one that is not known."""
        found = np.full(len(queries), np.nan, dtype=np.float32)
        place = np.array([self.number_of.get(query, -1) for query in queries], dtype=np.int64)
        begin = 0
        for products in self._scores(cases) if self.queries else ():
            scores = log_softmax(products, axis=1)
            here = np.flatnonzero((of_case >= begin) & (of_case < begin + len(scores)) & (place >= 0))
            found[here] = scores[of_case[here] - begin, place[here]]
            begin += len(scores)
        return found

    def _train(self, chosen: Moments, rounds: int, validation: Moments | None) -> int:
        """Trains anew; the number of rounds that did best, `rounds` where there is nothing to validate on."""
        recipe = self.recipe
        chosen = Moments(chosen.row[-recipe.most :], chosen.seen[-recipe.most :])
        # What is counted ends where the moments of training end.
        counts = np.bincount(self.known.of_text[self.log.text[chosen.row]], minlength=len(self.queries)) + 0.5
        draw = np.random.default_rng(recipe.seed)
        torch.manual_seed(recipe.seed)
        self.features = text_features(self.log.texts, recipe.shape)
        self.net = Towers(recipe.shape, len(self.log.categories), len(self.fields), np.log(counts / counts.sum()))
        optimizer = torch.optim.Adam(self.net.parameters(), lr=recipe.learning_rate)
        steps = rounds * max(1, len(chosen.row) // recipe.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.05, 1 - step / max(steps, 1)))
        by_popularity = counts**0.75 / (counts**0.75).sum()
        groups = self._groups(chosen)
        truth = self.known.of_text[self.log.text[chosen.row]]
        validated, best, since = [], 0, 0
        for number in range(1, rounds + 1):
            self.net.train()
            order = draw.permutation(len(chosen.row))
            for start in range(0, len(order), recipe.batch):
                part = order[start : start + recipe.batch]
                positives = truth[part]
                drawn = draw.choice(len(self.queries), recipe.negatives // 2, p=by_popularity)
                hard = groups.like(positives, recipe.negatives - recipe.negatives // 2, draw)
                loss = self._loss(_some(chosen, part), positives, np.unique(np.concatenate([drawn, hard])), counts)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            if validation is None:
                continue
            validated.append(self._hit_rate(validation))
            if validated[-1] > max(validated[:-1], default=-1.0):
                best, since = number, 0
            else:
                since += 1
                if since == recipe.patience:
                    break
        self.validated = validated or self.validated
        return best or rounds

    def _loss(self, chosen: Moments, positives: np.ndarray, negatives: np.ndarray, counts: np.ndarray) -> torch.Tensor:
        """Softmax over the distinct queries of batch and draw, each made less likely by as much as it is drawn more often."""
        columns = np.unique(np.concatenate([positives, negatives]))
        share = counts / counts.sum()
        drawn = 1 - (1 - share[columns]) ** (len(positives) + len(negatives))
        users = self.net.users(self._inputs(Newest(seen_of(self.log, chosen), ()), self._profiles_at(chosen)))
        scores = users @ self._query_vectors(columns).T + self.net.bias[torch.from_numpy(columns)]
        scores = scores - torch.from_numpy(np.log(np.maximum(drawn, 1e-9)).astype(np.float32))
        return nn.functional.cross_entropy(scores, torch.from_numpy(np.searchsorted(columns, positives)))

    def _hit_rate(self, chosen: Moments) -> float:
        chosen = Moments(chosen.row[-VALIDATED_ON:], chosen.seen[-VALIDATED_ON:])
        truth = self.known.of_text[self.log.text[chosen.row]]
        scores = self._all_scores(Newest(seen_of(self.log, chosen), ()), self._profiles_at(chosen))
        best = np.concatenate([top(part, 10) for part in scores])
        return float((best == truth[:, None]).any(axis=1).mean())

    def _scores(self, cases: Sequence[Case]):
        newest = newest_of(self.log, cases, numbers=self.numbers)
        return self._all_scores(newest, [case.profile for case in cases])

    @torch.no_grad()
    def _all_scores(self, newest: Newest, profiles: Sequence[Mapping[str, str]]):
        """Of all known queries, batch by batch."""
        self.net.eval()
        queries = self._query_vectors(np.arange(len(self.queries)))
        for start in range(0, len(profiles), 1_024):
            part = slice(start, start + 1_024)
            seen = type(newest.seen)(*(column[part] for column in newest.seen))
            users = self.net.users(self._inputs(Newest(seen, newest.new_texts), profiles[part]))
            yield (users @ queries.T + self.net.bias).numpy()

    def _query_vectors(self, places: np.ndarray) -> torch.Tensor:
        return self.net.queries(torch.from_numpy(self.features[self.known.text[places]]), torch.from_numpy(places))

    def _inputs(self, newest: Newest, profiles: Sequence[Mapping[str, str]]) -> Inputs:
        """Distinct texts are embedded once a batch."""
        features = self.features
        if newest.new_texts:
            features = np.concatenate([features, text_features(newest.new_texts, self.recipe.shape)])
        text = newest.seen.text
        used, place = np.unique(text, return_inverse=True)
        # A query that many search has a vector of its own beside its letters.
        known = np.where((used >= 0) & (used < len(self.log.texts)), used, 0)
        own = np.where((used >= 0) & (used < len(self.log.texts)), self.known.of_text[known], -1)
        fields = np.zeros((len(profiles), len(self.fields)), dtype=np.float32)
        for i, profile in enumerate(profiles):
            for value in profile_values([profile]):
                if value in self.fields:
                    fields[i, self.fields[value]] = 1.0
        return Inputs(
            torch.from_numpy(features[np.maximum(used, 0)]),
            torch.from_numpy(own),
            torch.from_numpy(place.reshape(text.shape)),
            torch.from_numpy(text >= 0),
            torch.from_numpy(newest.seen.is_search.astype(np.int64)),
            torch.from_numpy(newest.seen.category.astype(np.int64)),
            torch.from_numpy(newest.seen.age_ms),
            torch.from_numpy(fields),
        )

    def _profiles_at(self, chosen: Moments) -> list[Mapping[str, str]]:
        return [self.profiles.get(self.log.users[user], {}) for user in self.log.user[chosen.row]]

    def _groups(self, chosen: Moments) -> "_Groups":
        """Category of each known query: of the click that most often stood newest when it was searched."""
        newest = seen_of(self.log, chosen).category
        category = np.zeros(len(self.queries), dtype=np.int64)
        blank = self.log.categories.index("")
        clicked = newest[np.arange(len(newest)), (newest != blank).argmax(axis=1)]
        truth = self.known.of_text[self.log.text[chosen.row]]
        pairs, counts = np.unique(truth * len(self.log.categories) + clicked, return_counts=True)
        for i in np.argsort(counts, kind="stable"):
            category[pairs[i] // len(self.log.categories)] = pairs[i] % len(self.log.categories)
        return _Groups.of(category)


@dataclass(frozen=True)
class _Groups:
    """Known queries by category, to draw those that are easily taken for another."""

    category: np.ndarray
    order: np.ndarray
    starts: np.ndarray

    @staticmethod
    def of(category: np.ndarray) -> "_Groups":
        order = np.argsort(category, kind="stable")
        return _Groups(category, order, np.searchsorted(category[order], np.arange(category.max() + 2)))

    def like(self, queries: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
        """`count` queries of the categories of these ones."""
        groups = self.category[draw.choice(queries, count)]
        low, high = self.starts[groups], self.starts[groups + 1]
        return self.order[low + (draw.random(count) * (high - low)).astype(np.int64)]


def _some(chosen: Moments, which: np.ndarray) -> Moments:
    return Moments(chosen.row[which], chosen.seen[which])
