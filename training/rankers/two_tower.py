"""Embedding-based retrieval: a shopper's newest behaviours and a query as two vectors, whose product is how likely the query is next.

Trained in torch on every search of the log (`net.py` in this folder is the network) by softmax over the queries of the batch and of drawn
hard negatives, corrected for how often each is drawn (Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019), so that
scores tend to log-probabilities among all known queries. Retrieval compares with all known queries.

It is trained once, in two parts (as in "warmup-stable-decay" schedules): at one rate on all but the log's last days, round by round until
these are not hit more often; then over the whole log, while the rate falls to nothing, from so many rounds before the best one that there are
no more rounds in all.
"""

import training  # noqa: F401, I001  (before torch: see its docstring)
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.special import log_softmax
from torch import nn

from training.log import Case, Log
from training.rankers.fitted import once
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
from training.rankers.net import Inputs, TextPieces, Towers, profile_values
from training.rankers.tfidf import rows_of, top

VALIDATION_DAYS = 2
VALIDATED_ON = 3_000
"""Moments: the half-width of their HR@10 is about .015, and half of it from one round to the next."""


@dataclass(frozen=True)
class Recipe:
    width: int = 64
    batch: int = 1024
    negatives: int = 1024
    """Drawn for a batch: half of them by popularity, half from the categories of its queries."""
    rounds: int = 10
    """At most, at one rate, over all moments or `most` of them."""
    last_rounds: int = 2
    """Over the whole log, while the rate falls."""
    most: int = 300_000
    """Moments; the newest ones."""
    learning_rate: float = 0.005
    patience: int = 1
    """Rounds without a gain on the last days before it stops."""
    least_gain: float = 0.003
    """Of HR@10: one that is worth a round."""
    min_shoppers: int = 2
    seed: int = 0


class TwoTower:
    name = "two-tower"

    def __init__(self, recipe: Recipe | None = None, profiles: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """`profiles` by user, for the training moments, because a log has none; cases bring theirs."""
        self.recipe = recipe or Recipe()
        self.profiles = profiles or {}
        self.validated: list[float] = []
        """HR@10 on the log's last days, after each round that was tried."""
        self.rounds = self.recipe.last_rounds

    def __str__(self) -> str:
        return f"{self.rounds} rounds, of {len(self.validated)} tried"

    @once
    def fit(self, log: Log) -> None:
        recipe = self.recipe
        log = self.log = compact(log)
        self.numbers = text_numbers(log)
        self.known = known_queries(log, recipe.min_shoppers)
        self.queries = self.known.queries(log)
        self.number_of = {query: i for i, query in enumerate(self.queries)}
        self.fields = profile_values(self.profiles.values())
        self.validated, self.rounds = [], recipe.last_rounds
        if not self.queries:
            return
        self.pieces = TextPieces(log.texts)
        self.text_rows = self.pieces.rows(log.texts)
        self.profile_of_user = self._profile_rows([self.profiles.get(user, {}) for user in log.users])
        every = moments(log)
        every = _some(every, self.known.of_text[log.text[every.row]] >= 0)
        late = log.time_ms[every.row] >= int(log.time_ms[-1]) - VALIDATION_DAYS * DAY_MS
        torch.manual_seed(recipe.seed)
        self.draw = np.random.default_rng(recipe.seed)
        self.net = Towers(len(self.pieces), len(self.queries), len(log.categories), len(self.fields), recipe.width)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=recipe.learning_rate, fused=True)
        if late.sum() >= 200 and (~late).sum() >= 200:
            self._start_where_late_ones_are_hit(_some(every, ~late), _some(every, late))
        self._train(every, recipe.last_rounds, falling=True)

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

    def _start_where_late_ones_are_hit(self, early: Moments, late: Moments) -> None:
        """At one rate, round by round, until `late` moments are not hit more often; then back by `last_rounds` from the best round."""
        states = [deepcopy((self.net.state_dict(), self.optimizer.state_dict()))]
        best = 0
        while len(self.validated) < self.recipe.rounds and len(self.validated) < best + self.recipe.patience:
            self._train(early, 1, falling=False)
            self.validated.append(self._hit_rate(late))
            states.append(deepcopy((self.net.state_dict(), self.optimizer.state_dict())))
            if self.validated[-1] > max(self.validated[:-1], default=0.0) + self.recipe.least_gain:
                best = len(self.validated)
        self.rounds = max(best, self.recipe.last_rounds)
        net, optimizer = states[self.rounds - self.recipe.last_rounds]
        self.net.load_state_dict(net)
        self.optimizer.load_state_dict(optimizer)

    def _train(self, chosen: Moments, rounds: int, falling: bool) -> None:
        recipe, draw = self.recipe, self.draw
        chosen = Moments(chosen.row[-recipe.most :], chosen.seen[-recipe.most :])
        # What is counted ends where the moments of training end.
        truth = self.known.of_text[self.log.text[chosen.row]]
        counts = np.bincount(truth, minlength=len(self.queries)) + 0.5
        self.share = counts / counts.sum()
        by_popularity = counts**0.75 / (counts**0.75).sum()
        groups = self._groups(chosen)
        steps, step = rounds * -(-len(truth) // recipe.batch), 0
        self.net.train()
        for _ in range(rounds):
            order = draw.permutation(len(truth))
            for start in range(0, len(order), recipe.batch):
                part = order[start : start + recipe.batch]
                positives = truth[part]
                drawn = draw.choice(len(self.queries), recipe.negatives // 2, p=by_popularity)
                hard = groups.like(positives, recipe.negatives - recipe.negatives // 2, draw)
                loss = self._loss(_some(chosen, part), positives, np.concatenate([drawn, hard]))
                for group in self.optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * (1 - step / steps if falling else 1)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                step += 1

    def _loss(self, chosen: Moments, positives: np.ndarray, negatives: np.ndarray) -> torch.Tensor:
        """Softmax over the distinct queries of batch and draw, each made less likely by as much as it is drawn more often."""
        columns = np.unique(np.concatenate([positives, negatives]))
        drawn = 1 - (1 - self.share[columns]) ** (len(positives) + len(negatives))
        users = self.net.users(self._inputs(Newest(seen_of(self.log, chosen), ()), self._profiles_at(chosen)))
        scores = users @ self._query_vectors(columns).T + self._biases(columns)
        scores = scores - torch.from_numpy(np.log(np.maximum(drawn, 1e-9)).astype(np.float32))
        return nn.functional.cross_entropy(scores, torch.from_numpy(np.searchsorted(columns, positives)))

    def _hit_rate(self, chosen: Moments) -> float:
        chosen = Moments(chosen.row[-VALIDATED_ON:], chosen.seen[-VALIDATED_ON:])
        truth = self.known.of_text[self.log.text[chosen.row]]
        scores = self._all_scores(Newest(seen_of(self.log, chosen), ()), self._profiles_at(chosen))
        best = np.concatenate([top(part, 10) for part in scores])
        return float((best == truth[:, None]).any(axis=1).mean())

    def _scores(self, cases: Sequence[Case]) -> Iterable[np.ndarray]:
        newest = newest_of(self.log, cases, numbers=self.numbers)
        return self._all_scores(newest, self._profile_rows([case.profile for case in cases]))

    @torch.no_grad()
    def _all_scores(self, newest: Newest, profiles: np.ndarray) -> Iterable[np.ndarray]:
        """Of all known queries, batch by batch."""
        self.net.eval()
        every = np.arange(len(self.queries))
        queries, biases = self._query_vectors(every), self._biases(every)
        for start in range(0, len(profiles), 1_024):
            part = slice(start, start + 1_024)
            seen = type(newest.seen)(*(column[part] for column in newest.seen))
            users = self.net.users(self._inputs(Newest(seen, newest.new_texts), profiles[part]))
            yield (users @ queries.T + biases).numpy()

    def _query_vectors(self, places: np.ndarray) -> torch.Tensor:
        return self.net.queries(rows_of(self.text_rows, self.known.text[places]), torch.from_numpy(places))

    def _biases(self, places: np.ndarray) -> torch.Tensor:
        return self.net.bias[torch.from_numpy(places)] + torch.from_numpy(np.log(self.share[places]).astype(np.float32))

    def _inputs(self, newest: Newest, profiles: np.ndarray) -> Inputs:
        """Distinct texts are embedded once a batch."""
        rows, texts = self.text_rows, len(self.log.texts)
        if newest.new_texts:
            rows = sparse.csr_matrix(sparse.vstack([rows, self.pieces.rows(newest.new_texts)], format="csr"))
        used, place = np.unique(np.maximum(newest.seen.text, 0), return_inverse=True)
        # A query that many search has a vector of its own beside its letters.
        own = np.where(used < texts, self.known.of_text[np.minimum(used, texts - 1)], -1)
        return Inputs(
            rows_of(rows, used),
            torch.from_numpy(own),
            torch.from_numpy(place.reshape(newest.seen.text.shape)),
            torch.from_numpy(newest.seen.text >= 0),
            torch.from_numpy(newest.seen.is_search.astype(np.int64)),
            torch.from_numpy(newest.seen.category.astype(np.int64)),
            torch.from_numpy(newest.seen.age_ms),
            torch.from_numpy(profiles),
        )

    def _profile_rows(self, profiles: Sequence[Mapping[str, str]]) -> np.ndarray:
        """float32 [profiles, fields]: 1 for what a profile says."""
        said = np.zeros((len(profiles), len(self.fields)), dtype=np.float32)
        for i, profile in enumerate(profiles):
            said[i, [self.fields[value] for value in profile_values([profile]) if value in self.fields]] = 1
        return said

    def _profiles_at(self, chosen: Moments) -> np.ndarray:
        return self.profile_of_user[self.log.user[chosen.row]]

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
