"""What a shopper has in mind, and the law of the next search.

Four things call for the next search, each with its weight:
- the lasting taste (weight 1): a category by taste, then a want by popularity and liking;
- threads: every category searched lately excites the next search, by Omori's law, weight / (1 + age / REST): fast at first, never quite gone.
  A thread brings back the same search, another want of its category (rather one with the same brand or phrase, a cheaper one after things
  that were too dear), or one of the neighbours of its category. What was bought excites its neighbours alone;
- cycles: what is used up is wanted again, mostly in the same words, about a period after the last time;
- crazes that the shopper's communities have caught and the shopper has not searched yet.
Some threads grip more than others; how much is drawn when they begin, and no log tells but by what follows.
"""

from collections.abc import Callable, Iterator
from heapq import nlargest
from itertools import accumulate
from random import Random

from simulation.habits.fashion import Fashion
from simulation.habits.interests import REST_MS, Cycle, Mix, Thread
from simulation.habits.phrases import THEMES, pick
from simulation.habits.taste import Taste
from simulation.habits.wants import FEATURE, NO_TAG, PURPOSE, QUESTION, Want
from simulation.habits.world import MORE_JOINTS, World, draw, total
from simulation.law import DAY_MS, Chance

SAID_IN_FULL = frozenset((PURPOSE, FEATURE, QUESTION))
"""Kinds of wants to which no more words are added."""
GRIPS = (0.35, 1.0, 2.4)
"""Equally likely."""
MOST_LEVEL = 2.5
THREADS, CYCLES = 6, 4
"""Most that a shopper keeps."""
AGAIN, DEEPER = 0.03, 0.54
"""Share of a thread's searches that repeat its last, that stay in its category; the rest goes to neighbours."""
SAME_WORDS = 0.38
"""Share of a cycle's searches that repeat the words of the last time."""
PERIODS = (5, 7, 10, 14)
"""Days."""
HABITUAL = 0.93
"""Share of searches in the habitual wording, where a want has several."""
CARRIED = 3.5
"""Factor on wants that share the brand or phrase of the thread's last."""
CHEAPER, NOT_CHEAPER = 4.0, 0.3
"""Factors after something that was too dear, on cheaper wants and on others."""
CRAZE = 5.0
"""Weight of a craze that all of a community has, for the most open minded."""
MORE_WORDS = 0.12
"""Share of searches that say more, such as "cheap toasters for camping": the long tail, each too rare to be likely."""
DONE = 0.01
"""Factor on what they searched already: it is found, and comes back by a thread's or a cycle's repeat rather than by taste."""
REMEMBERED = 80
"""Searches; so many that only the busiest forget."""


class Mind:
    def __init__(self, world: World, fashion: Fashion, taste: Taste) -> None:
        self._world, self._fashion, self.taste = world, fashion, taste
        self.threads: list[Thread] = []
        self.cycles: list[Cycle] = []
        self._done: dict[Want, None] = {}
        """Latest last."""

    def mix(self, now_ms: int, day: int) -> Mix:
        heard: dict[Want, float] = {}
        for community, share in self.taste.communities:
            for want, infected in self._fashion.crazes(day, community):
                heard[want] = heard.get(want, 0.0) + CRAZE * self.taste.open_minded * share * infected
        crazes = [(weight * (DONE if want in self._done else 1.0), want) for want, weight in heard.items()]
        threads = [(thread.weight(now_ms), thread) for thread in self.threads]
        cycles = [(weight, cycle) for cycle in self.cycles if (weight := cycle.weight(now_ms)) > 0]
        whole = 1.0 + total(part[0] for parts in (crazes, threads, cycles) for part in parts)
        return Mix(now_ms, day, crazes, threads, cycles, whole)

    def draw(self, rng: Random, mix: Mix) -> tuple[Want, str]:
        """The next search: what is wanted, in which words."""
        at = rng.random() * mix.total
        for weight, want in mix.crazes:
            at -= weight
            if at < 0:
                return want, self._say(rng, want)
        for weight, cycle in mix.cycles:
            at -= weight
            if at < 0:
                if rng.random() < SAME_WORDS:
                    return cycle.want, cycle.wording
                return self._fresh(rng, mix.day, cycle.want.category)
        for weight, thread in mix.threads:
            at -= weight
            if at < 0:
                return self._on(rng, mix.day, thread)
        return self._fresh(rng, mix.day, draw(rng, self.taste.sums))

    def _on(self, rng: Random, day: int, thread: Thread) -> tuple[Want, str]:
        way = 1.0 if thread.bought else rng.random()
        if way < AGAIN:
            return thread.want, thread.wording
        category = thread.want.category
        if way < AGAIN + DEEPER:
            want = self._world.categories[category].wants[draw(rng, list(accumulate(self._deeper(day, thread))))]
            return want, self._say(rng, want)
        numbers, sums = self._world.neighbours[category]
        return self._fresh(rng, day, numbers[draw(rng, sums)])

    def _fresh(self, rng: Random, day: int, category: int) -> tuple[Want, str]:
        want = self._world.categories[category].wants[draw(rng, list(accumulate(self._likings(day, category))))]
        return want, self._say(rng, want)

    def _likings(self, day: int, category: int) -> list[float]:
        likes, popularity = self.taste.likes, self._fashion.popularity(day, category)
        wants = self._world.categories[category].wants
        done = self._done
        return [
            weight * likes.get(want.tag, 1.0) * (DONE if want in done else 1.0)
            for weight, want in zip(popularity, wants, strict=True)
        ]

    def _deeper(self, day: int, thread: Thread) -> list[float]:
        last, dear = thread.want, thread.too_dear
        weights = self._likings(day, last.category)
        for place, want in enumerate(self._world.categories[last.category].wants):
            if want is last:
                weights[place] = 0.0
            elif want.tag == last.tag != NO_TAG:
                weights[place] *= CARRIED
            if dear:
                weights[place] *= CHEAPER if want.tier < dear else NOT_CHEAPER
        return weights

    def _say(self, rng: Random, want: Want) -> str:
        habit, count = self.taste.wording[want.kind] % len(want.wordings), len(want.wordings)
        if want.kind not in SAID_IN_FULL and rng.random() < MORE_WORDS:
            return self._in_full(rng, want, want.wordings[habit])
        if count == 1 or rng.random() < HABITUAL:
            return want.wordings[habit]
        return want.wordings[(habit + 1 + int(rng.random() * (count - 1))) % count]

    def _in_full(self, rng: Random, want: Want, wording: str) -> str:
        theme, luck = THEMES[self._world.categories[want.category].theme], rng.random()
        if luck < 0.7:
            wording += MORE_JOINTS[0] + pick(rng, theme.purposes)
        return wording + MORE_JOINTS[1] + pick(rng, theme.features) if luck >= 0.35 else wording

    def _wordings(self, want: Want) -> Iterator[tuple[str, float]]:
        habit, count = self.taste.wording[want.kind] % len(want.wordings), len(want.wordings)
        short = 1.0 if want.kind in SAID_IN_FULL else 1 - MORE_WORDS
        for at, wording in enumerate(want.wordings):
            yield wording, short * (1.0 if count == 1 else HABITUAL if at == habit else (1 - HABITUAL) / (count - 1))

    def categories(self, mix: Mix) -> dict[int, float]:
        """Where a fresh want is looked for, beyond the lasting taste: categories and weights."""
        found: dict[int, float] = {}
        for weight, cycle in mix.cycles:
            found[cycle.want.category] = found.get(cycle.want.category, 0.0) + weight * (1 - SAME_WORDS)
        for weight, thread in mix.threads:
            away = weight if thread.bought else weight * (1 - AGAIN - DEEPER)
            numbers, sums = self._world.neighbours[thread.want.category]
            before = 0
            for number, upto in zip(numbers, sums, strict=True):
                found[number] = found.get(number, 0.0) + away * (upto - before) / sums[-1]
                before = upto
        return found

    def chances(self, mix: Mix, count: int) -> list[Chance]:
        """The likeliest next searches, best first; a slip of the hand takes its share of each."""
        found: dict[str, float] = {}

        def add(wording: str, weight: float) -> None:
            found[wording] = found.get(wording, 0.0) + weight

        for weight, want in mix.crazes:
            for wording, share in self._wordings(want):
                add(wording, weight * share)
        for weight, cycle in mix.cycles:
            add(cycle.wording, weight * SAME_WORDS)
        for weight, thread in mix.threads:
            if thread.bought:
                continue
            add(thread.wording, weight * AGAIN)
            self._add_wants(add, thread.want.category, weight * DEEPER, self._deeper(mix.day, thread))
        away = self.categories(mix)
        weights = [self.taste.share(number) + away.get(number, 0.0) for number in range(len(self._world.categories))]
        named = {want.category for _, want in mix.crazes}
        named.update(part.want.category for parts in (mix.cycles, mix.threads) for _, part in parts)
        others = sorted((-weight, number) for number, weight in enumerate(weights) if number not in named)
        for place, number in enumerate([*sorted(named), *(number for _, number in others)]):
            # All of a category's weight on one query would not bring it among the best: nor will any category after it.
            if (
                number not in named
                and place % 4 == 0
                and len(found) > count
                and weights[number] < nlargest(count, found.values())[-1]
            ):
                break
            self._add_wants(add, number, weights[number], self._likings(mix.day, number))
        sure = (1 - self.taste.slips) / mix.total
        best = sorted(((-weight, wording) for wording, weight in found.items()))[:count]
        return [Chance(wording, -weight * sure) for weight, wording in best]

    def _add_wants(self, add: Callable[[str, float], None], category: int, weight: float, weights: list[float]) -> None:
        scale = weight / total(weights)
        for want, liking in zip(self._world.categories[category].wants, weights, strict=True):
            for wording, share in self._wordings(want):
                add(wording, scale * liking * share)

    def searched(self, rng: Random, want: Want, wording: str, now_ms: int) -> None:
        """A search, of themselves or of a hint: its thread begins, or is excited again."""
        category = self._world.categories[want.category]
        self._done.pop(want, None)
        self._done[want] = None
        if len(self._done) > REMEMBERED:
            del self._done[next(iter(self._done))]
        for thread in self.threads:
            if thread.want.category == want.category:
                rested = thread.level / (1 + max(0, now_ms - thread.time_ms) / REST_MS)
                thread.want, thread.wording, thread.time_ms, thread.bought = want, wording, now_ms, False
                thread.level = min(MOST_LEVEL, rested + 1)
                break
        else:
            self.threads.append(Thread(want, wording, now_ms, 1.0, GRIPS[int(rng.random() * len(GRIPS))]))
            if len(self.threads) > THREADS:
                self.threads.remove(min(self.threads, key=lambda thread: thread.weight(now_ms)))
        if category.consumed:
            self._used_up(rng, want, wording, now_ms)

    def _used_up(self, rng: Random, want: Want, wording: str, now_ms: int) -> None:
        for cycle in self.cycles:
            if cycle.want.category == want.category:
                cycle.want, cycle.wording, cycle.due_ms = want, wording, now_ms + cycle.period_ms
                return
        self.begin_cycle(rng, want, wording, now_ms, 1.0)

    def begin_cycle(self, rng: Random, want: Want, wording: str, now_ms: int, rest: float) -> None:
        """`rest`: share of the first period that is still to come."""
        period_ms = int(PERIODS[int(rng.random() * len(PERIODS))] * DAY_MS * self.taste.period)
        self.cycles.append(Cycle(want, wording, period_ms, now_ms + int(rest * period_ms)))
        if len(self.cycles) > CYCLES:
            del self.cycles[0]

    def born_cycles(self, rng: Random, now_ms: int) -> None:
        """What they already used up before the log begins: of the four categories drawn, those whose things are used up."""
        for _ in range(4):
            category = self._world.categories[draw(rng, self.taste.sums)]
            if category.consumed and all(cycle.want.category != category.number for cycle in self.cycles):
                want, wording = self._fresh(rng, 0, category.number)
                self.begin_cycle(rng, want, wording, now_ms, rng.random())

    def looked(self, tier: int, category: int) -> None:
        """A click on something of this tier: what is too dear makes them look for something cheaper."""
        for thread in self.threads:
            if thread.want.category == category:
                thread.level = min(MOST_LEVEL, thread.level + 0.3)
                if tier > self.taste.budget:
                    thread.too_dear = tier
                return

    def bought(self, category: int) -> None:
        """They have it: only what goes with it calls for a search now."""
        for thread in self.threads:
            if thread.want.category == category:
                thread.bought = True
                return

    def attraction(self, mix: Mix, want: Want) -> tuple[float, float]:
        """Probability that the next search lies in the want's category, and how the want itself is liked there (1: as most)."""
        category = want.category
        weight = self.taste.share(category) + self.categories(mix).get(category, 0.0)
        liked = self.taste.likes.get(want.tag, 1.0)
        for part, craze in mix.crazes:
            if craze.category == category:
                weight += part
                liked *= 2 if craze is want else 1
        for part, cycle in mix.cycles:
            if cycle.want.category == category:
                weight += part * SAME_WORDS
                liked *= 1.5 if cycle.want is want else 1
        for part, thread in mix.threads:
            if thread.want.category == category and not thread.bought:
                weight += part * (AGAIN + DEEPER)
                if thread.want.tag == want.tag != NO_TAG:
                    liked *= 1.5
                if thread.too_dear and want.tier >= thread.too_dear:
                    liked *= NOT_CHEAPER
        return weight / mix.total, liked
