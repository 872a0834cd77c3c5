"""A model bundle as a contender: its greedy lists, as the nearline job would store them.

Thirty candidates of a model that writes ten: the greedy list, then a second and a third one, for which the queries of the lists before count as
listed already (`inference.distinct`: the token that would complete one is not to be had). So the model itself decides on every
place, and the first ten are what is served. A query that the job's parser drops is dropped here; the next one moves up. Places that the model leaves
empty, all thirty of them where its output is no list, are filled with popularity as every contender's are; how often the greedy output
is a list by the job's rules is `valid`.

What a model wrote is kept on disk by bundle and prompts: metrics are computed again without decoding.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from inference.allow_list import FILE_NAME as ALLOW_LIST
from inference.allow_list import AllowList
from inference.allowed_prefixes import Prefixes
from inference.model_bundle import ModelBundle
from inference.output import QueryList, QueryRules, normalise, parse_list
from inference.prompt import build_prompt
from training.log import Case, Log
from training.rankers.newest import ByShopper
from training.rankers.scores import Window, shares

FILLED_FROM = Window(7)
THREADS = 2
BATCH = 128
LISTS = 3
CHUNK = 2_048
"""Prompts between two files: what a decode loses that is killed."""


class Written(msgspec.Struct, frozen=True, array_like=True):
    """One answer."""

    text: str
    ended: bool


Answers = tuple[Written, ...]
"""A prompt's lists, the greedy one first."""


class ModelRanker:
    def __init__(self, bundle: ModelBundle, cache: Path, lists: int = LISTS, free: bool = False, name: str = ""):
        """`cache`: folder for what the model wrote. `lists`: with 1 only the served list is decoded, in a third of the time.
        `free`: without the bundle's allow-list, which is what serves. `name` in tables; empty: the bundle's."""
        self.name = name or f"{bundle.card.name}/{bundle.card.version}{' free' if free else ''}"
        self.seed = bundle.card.seed
        self._bundle, self._cache, self._lists = bundle, cache, lists
        self._popular: list[str] = []
        self._rules = QueryRules()
        self._allowed = None
        if not free and (bundle.path / ALLOW_LIST).is_file():
            allowed = AllowList.read(bundle.path / ALLOW_LIST)
            self._rules = QueryRules(supported=frozenset(row.query for row in allowed.rows))
            self._allowed = Prefixes.of(allowed, bundle.tokenizer)

    def fit(self, log: Log) -> None:
        """The model stays as it is; the filling is counted."""
        popularity = shares(ByShopper.of(log), len(log.texts), FILLED_FROM)
        order = np.lexsort((np.arange(len(popularity)), -popularity))
        self._popular = [log.texts[i] for i in order[:200] if popularity[i] > 0]

    def rank(self, cases: Sequence[Case], count: int) -> list[tuple[str, ...]]:
        made = []
        for answers in self._answers(cases):
            own = (normalise(query) for answer in answers for query in self._queries(answer))
            made.append(tuple(islice(dict.fromkeys([*own, *self._popular]), count)))
        return made

    def valid(self, cases: Sequence[Case]) -> np.ndarray:
        """Of each case: whether the greedy output is a list by the job's rules (at least five good queries)."""
        return np.array([bool(self._queries(answers[0])) for answers in self._answers(cases)], dtype=float)

    def reach(self, cases: Sequence[Case]) -> float | None:
        """Share of the cases whose next query the allow-list has: no list of this model hits more. None: it writes freely."""
        allowed = self._rules.supported
        return None if allowed is None else float(np.mean([case.next in allowed for case in cases]))

    def prompt_tokens(self, cases: Sequence[Case]) -> np.ndarray:
        """Of each case."""
        encoded = self._bundle.tokenizer.encode_batch(prompts_of(self._bundle, cases))
        return np.array([len(encoding.ids) for encoding in encoded], dtype=float)

    def _queries(self, answer: Written) -> tuple[str, ...]:
        found = parse_list(answer.text, self._rules, "stop" if answer.ended else "length")
        return found.queries if isinstance(found, QueryList) else ()

    def _answers(self, cases: Sequence[Case]) -> Iterator[Answers]:
        prompts = prompts_of(self._bundle, cases)
        distinct = sorted(set(prompts))
        known: dict[str, Answers] = {}
        for start in range(0, len(distinct), CHUNK):
            part = distinct[start : start + CHUNK]
            known |= dict(zip(part, self._kept_or_written(part), strict=True))
        yield from (known[prompt] for prompt in prompts)

    def _kept_or_written(self, prompts: list[str]) -> list[Answers]:
        of_prompts = sha256(msgspec.json.encode([prompts, self._lists, self._allowed is not None])).hexdigest()[:24]
        path = self._cache / self._bundle.digest[:24] / f"{of_prompts}.json"
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=list[Answers])
        answers = self._written(prompts)
        path.parent.mkdir(parents=True, exist_ok=True)
        writing = path.with_suffix(".writing")
        writing.write_bytes(msgspec.json.encode(answers))
        writing.replace(path)
        return answers

    def _written(self, prompts: list[str]) -> list[Answers]:
        import training  # noqa: F401, I001  (before torch: see its docstring)
        import torch

        from training.decode import greedy
        from training.decoder import load_decoder
        from training.rankers.more_lists import another_list

        torch.set_num_threads(min(THREADS, torch.get_num_threads()))
        model, tokenizer = load_decoder(self._bundle), self._bundle.tokenizer
        written = [Written(*each) for each in greedy(model, tokenizer, prompts, BATCH, self._allowed)]
        answers = [(each,) for each in written]
        for _ in range(1, self._lists):
            listed = [tuple(query for each in before for query in self._queries(each)) for before in answers]
            more = another_list(model, tokenizer, prompts, listed, BATCH, self._allowed)
            answers = [(*before, Written(*new)) for before, new in zip(answers, more, strict=True)]
        return answers


def prompts_of(bundle: ModelBundle, cases: Sequence[Case]) -> list[str]:
    """As the bundle was trained on them: its card says whether uncompressed ones (`aigq sft --plain`)."""
    plain = bundle.card.recipe.get("prompts") == "plain"
    return [build_prompt(case.profile, case.seen, case.as_of_ms, plain) for case in cases]
