"""Composes queries from slots: what is left to a model where queries follow templates.

A next query's probability is taken apart: category, form given the last form, then each slot given the category. Each slot's
probability is a mixture of what this shopper did lately, did in all, and what all shoppers do; the shares of a mixture are fitted by
expectation maximisation on the log's newest moments. Slots come from `slots.py`, so from the log alone. Queries composed so need not
have been searched by anybody.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from inference.output import normalise
from training.log import Case, Log
from training.rankers.fitted import once
from training.rankers.moments import DAY_MS, KEPT, cases, compact, known_queries, moments
from training.rankers.slots import Parsed, Slots, Titled

LEARNED_ON = 6_000
"""Moments, of the log's last days."""
LEARNED_DAYS = 4
TUNED_ON = 1_000
SESSION_MS = 1_800_000
FADE = 0.7
"""Weight of a behaviour against the one after it."""
CATEGORIES, CHOICES, FORMS = 8, 4, 8
"""Tried for a case: the likeliest categories, choices of each slot, forms of a category."""
LEAST = 2e-4
"""Probability of a query that is worth composing: a list of fifty ends above it."""
AGAIN = (0.02, 0.1, 0.3, 0.6, 1.0, 2.0)
"""Factors to choose from for a query that the shopper has searched already."""

Shares = dict[str, float]


@dataclass
class Interest:
    """What a case's behaviours come to in slots."""

    newest: str = ""
    """Category."""
    before: str = ""
    """The newest other category."""
    form: str = ""
    """Of the newest search in the newest category."""
    fresh: bool = False
    """The last behaviour is of this session."""
    categories: Shares = field(default_factory=lambda: defaultdict(float))
    slots: dict[str, dict[str, Shares]] = field(default_factory=lambda: {slot: defaultdict(lambda: defaultdict(float)) for slot in "bam"})  # fmt: skip
    """Slot -> category, "" for all -> weights."""
    newest_of: dict[tuple[str, str], str] = field(default_factory=dict)
    """Slot, category -> newest."""
    searched: set[str] = field(default_factory=set)


class Template:
    name = "template"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.again = 0.3
        self._last: tuple[Sequence[Case], list[Shares]] | None = None

    def __str__(self) -> str:
        return f"own queries again x {self.again:g}"

    @once
    def fit(self, log: Log) -> None:
        """About 20 s for a million behaviours."""
        log, self._last = compact(log), None
        self.slots = Slots(log)
        self.popular = known_queries(log, 2).queries(log)
        self._count(log)
        from_ms = int(log.time_ms[-1]) - LEARNED_DAYS * DAY_MS if len(log) else 0
        learned = cases(log, moments(log, from_ms, LEARNED_ON, seed=self.seed))
        self._learn(learned)
        tuned = learned[:: max(1, len(learned) // TUNED_ON)]
        interests = [self._interest(case) for case in tuned]
        composed = [self._composed(interest) for interest in interests]

        def hits(again: float) -> int:
            found = 0
            for case, interest, scores in zip(tuned, interests, composed, strict=True):
                weighed = {q: score * again if q in interest.searched else score for q, score in scores.items()}
                found += case.next in dict(_most(weighed, 10))
            return found

        self.again = max(AGAIN, key=hits)

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        made = []
        for scores in self._scores(cases):
            best = sorted(scores, key=lambda query: (-scores[query], query))[:count]
            made.append(tuple(dict.fromkeys([*best, *self.popular[: count if len(best) < count else 0]]))[:count])
        return made

    def pair_scores(self, cases: Sequence[Case], of_case: np.ndarray, queries: Sequence[str]) -> np.ndarray:
        """Log of what a query was composed with; NaN for one that was not composed."""
        found = np.full(len(queries), np.nan, dtype=np.float32)
        scores = self._scores(cases)
        for i, number in enumerate(of_case.tolist()):
            if queries[i] in scores[number]:
                found[i] = np.log(scores[number][queries[i]])
        return found

    def _scores(self, cases: Sequence[Case]) -> list[Shares]:
        """Of what is composed for each case. The last answer is kept: a blend asks for lists and for scores of the same cases."""
        if self._last is None or self._last[0] is not cases:
            made = []
            for case in cases:
                interest = self._interest(case)
                scores = self._composed(interest)
                for query in interest.searched & scores.keys():
                    scores[query] *= self.again
                made.append(scores)
            self._last = cases, made
        return self._last[1]

    # What all shoppers do.

    def _count(self, log: Log) -> None:
        order = np.argsort(log.user, kind="stable")
        order = order[log.is_search[order] & log.by_themselves[order]]
        parsed = [self.slots.parse(log.texts[i]) for i in log.text[order]]
        same_user = np.append(False, log.user[order][1:] == log.user[order][:-1])
        self.of_category: Counter[str] = Counter()
        self.following: dict[str, Counter[str]] = defaultdict(Counter)
        self.forms: dict[str, Counter[str]] = defaultdict(Counter)
        """What the form hangs on: "" for nothing, "new" in another category, the last form in the same one."""
        self.values: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        """Slot and category (and brand, for a model number) -> choices."""
        last: Parsed | None = None
        for here, same in zip(parsed, same_user, strict=True):
            last = last if same else None
            if not here:
                continue
            self.of_category[here.category] += 1
            self.forms[""][here.form] += 1
            if last and last.category == here.category:
                self.forms[last.form][here.form] += 1
            else:
                self.forms["new"][here.form] += 1
            if last and last.category != here.category:
                self.following[last.category][here.category] += 1
            for slot in here.form:
                self.values[slot, here.category][here.part(slot)] += 1
            if here.model:
                self.values["m", f"{here.category}/{here.brand}"][here.model] += 1
            last = here
        clicks = np.flatnonzero(~log.is_search)
        pairs = log.text[clicks].astype(np.int64) * len(log.categories) + log.category[clicks]
        for key, count in zip(*np.unique(pairs, return_counts=True), strict=True):
            category = log.categories[key % len(log.categories)]
            titled = self.slots.read_title(log.texts[key // len(log.categories)], category)
            for model in titled.models:
                self.values["m", f"{category}/{titled.brand}"][model] += int(count)
                self.values["m", category][model] += int(count)

        self.shares_of_category = _shares(self.of_category)
        self.shares_of_form = _shares(self.forms[""])
        self.shares_following = {category: _shares(counts) for category, counts in self.following.items()}
        self.sold = {scope: _shares(counts) for scope, counts in self.values.items()}

    def _interest(self, case: Case) -> Interest:
        found = Interest()
        found.fresh = bool(case.seen) and case.as_of_ms - case.seen[-1].time_ms < SESSION_MS
        weight = 1.0
        for behaviour in reversed(case.seen[-KEPT:]):
            parsed: Parsed | None = None
            if behaviour.kind == "search":
                query = normalise(behaviour.text)
                found.searched.add(query)
                parsed = self.slots.parse(query)
                category = parsed.category if parsed else self.slots.category_of.get(query, "")
                titled = Titled(parsed.brand, (parsed.attribute,), (parsed.model,)) if parsed else Titled("", (), ())
            else:
                category = behaviour.category
                titled = self.slots.read_title(behaviour.text, category)
            weight *= FADE
            if not category:
                continue
            if not found.newest:
                found.newest = category
            elif category != found.newest and not found.before:
                found.before = category
            if parsed and not found.form and category == found.newest:
                found.form = parsed.form
            found.categories[category] += weight
            for slot, values in (("b", (titled.brand,)), ("a", titled.attributes), ("m", titled.models)):
                for value in values:
                    if value:
                        for scope in (category, ""):
                            found.slots[slot][scope][value] += weight
                            found.newest_of.setdefault((slot, scope), value)
        return found

    # Components of each mixture, for one case.

    def _category_parts(self, interest: Interest) -> list[Shares]:
        return [
            {interest.newest: 1.0} if interest.newest else {},
            {interest.before: 1.0} if interest.before else {},
            _shares(interest.categories),
            self.shares_following.get(interest.newest, {}),
            self.shares_following.get(interest.before, {}),
            self.shares_of_category,
        ]

    def _slot_parts(self, interest: Interest, slot: str, category: str, brand: str = "") -> list[Shares]:
        scope = f"{category}/{brand}" if slot == "m" else category
        sold = self.sold.get((slot, scope), {})
        lately = [interest.newest_of.get((slot, where)) for where in (category, "")]
        elsewhere = {value: weight for value, weight in interest.slots[slot][""].items() if value in sold}
        return [
            {lately[0]: 1.0} if lately[0] else {},
            {lately[1]: 1.0} if lately[1] and lately[1] in sold else {},
            _shares(interest.slots[slot][category]) if category in interest.slots[slot] else {},
            _shares(elsewhere),
            sold,
        ]

    def _learn(self, learned: Sequence[Case]) -> None:
        """Shares of the mixtures: of categories by whether the session goes on, of slots by slot."""
        rows: dict[str, list[list[float]]] = defaultdict(list)
        there: dict[str, list[list[bool]]] = defaultdict(list)

        def add(name: str, parts: list[Shares], value: str) -> None:
            rows[name].append([part.get(value, 0.0) for part in parts])
            there[name].append([bool(part) for part in parts])

        for case in learned:
            truth = self.slots.parse(case.next)
            if not truth:
                continue
            interest = self._interest(case)
            add(f"c{interest.fresh}", self._category_parts(interest), truth.category)
            for slot in "bam":
                if slot in truth.form:
                    parts = self._slot_parts(interest, slot, truth.category, truth.brand)
                    add(f"{slot}{truth.category == interest.newest}", parts, truth.part(slot))
        self.mixtures = {name: _maximised(np.array(rows[name]), np.array(there[name], dtype=float)) for name in rows}

    def _mixed(self, name: str, parts: list[Shares], most: int) -> list[tuple[str, float]]:
        weights: Mapping[int, float] = dict(enumerate(self.mixtures.get(name, [1 / len(parts)] * len(parts))))
        total = sum(weights[i] for i, part in enumerate(parts) if part)
        mixed: Shares = defaultdict(float)
        for i, part in enumerate(parts):
            for value, share in part.items():
                mixed[value] += weights[i] * share / total
        return _most(mixed, most)

    def _composed(self, interest: Interest) -> Shares:
        scores: dict[str, float] = defaultdict(float)
        for category, likely in self._mixed(f"c{interest.fresh}", self._category_parts(interest), CATEGORIES):
            choices = {"h": _most(self.sold.get(("h", category), {}), 2)}
            for slot in "ba":
                choices[slot] = self._mixed(
                    f"{slot}{category == interest.newest}", self._slot_parts(interest, slot, category), CHOICES
                )
            for form, share in self._forms(interest, category):
                floor = LEAST / (likely * share)
                for query, chance in self._written(form, choices, interest, category, floor):
                    scores[query] += likely * share * chance
        return scores

    def _forms(self, interest: Interest, category: str) -> list[tuple[str, float]]:
        """Likeliest forms, those after the last form smoothed by those of all queries."""
        context = (interest.form if category == interest.newest and interest.form in self.forms else "") or "new"
        after = self.forms.get(context, Counter())
        total = after.total()
        mixed = {form: (after[form] + 20 * share) / (total + 20) for form, share in self.shares_of_form.items()}
        return _most(mixed, FORMS)

    def _written(self, form: str, choices: dict[str, list[tuple[str, float]]], interest: Interest, category: str, floor: float) -> list[tuple[str, float]]:  # fmt: skip
        """Queries of a form with their chances, if these are not below `floor`."""
        rows: list[tuple[dict[str, str], float]] = [({}, 1.0)]
        for slot in sorted(form, key="hbam".index):  # the brand is chosen before its model number
            found = []
            for words, chance in rows:
                options = choices.get(slot, [])
                if slot == "m":
                    parts = self._slot_parts(interest, "m", category, words.get("b", ""))
                    options = self._mixed(f"m{category == interest.newest}", parts, CHOICES)
                found += [
                    ({**words, slot: value}, chance * share) for value, share in options if chance * share >= floor
                ]
            rows = found
        return [(" ".join(words[slot] for slot in form), chance) for words, chance in rows]


def _shares(counts: Mapping[str, float]) -> Shares:
    total = sum(counts.values())
    return {value: count / total for value, count in counts.items()} if total else {}


def _most(shares: Shares, most: int) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))[:most]


def _maximised(chances: np.ndarray, there: np.ndarray) -> list[float]:
    """Expectation maximisation: shares of the components under which the truths [n, components] are likeliest, where a
    component that is not `there` leaves its share to the others."""
    weights = np.full(chances.shape[1], 1 / chances.shape[1])
    for _ in range(60):
        gain = (chances / (chances @ weights + 1e-9)[:, None]).sum(axis=0)
        weights = weights * gain / np.maximum((there / (there @ weights + 1e-9)[:, None]).sum(axis=0), 1e-9)
        weights = np.maximum(weights / weights.sum(), 1e-4)
    return weights.tolist()
