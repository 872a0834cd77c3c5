"""Once per market, before any labels: the decoder learns searches and titles by next token, and every arm is forked from it.

A row is a stretch of one shopper's history as a prompt shows it, of which every search is learned, or some titles. Clicks are read and not
learned: guessing titles took most of the loss, and what a list is made of is searches (docs/decisions/0009). Nothing at or after the
cut-off is read, and the vocabulary is made of the same days.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow.parquet as pq

from inference.model_bundle import ModelBundle
from inference.output import near_duplicates, normalise
from inference.prompt import MOST_BEHAVIOURS, answer, build_prompt
from inference.vocabulary import train_tokenizer
from schemas import Behaviour
from training.base_model import BaseModel
from training.decoder import MAX_TOKENS, new_decoder
from training.il_sft import Data, Name, held_out, run
from training.il_sft_loop import CHECKPOINT_S
from training.il_sft_recipe import Recipe
from training.il_sft_rows import Text, rows_of
from training.il_sft_targets import LIST_LENGTH, list_target
from training.log import Log
from training.progress import say

DAY_MS = 86_400_000
SETTLE_MS = 3_000
"""A prompt is made so long after its newest behaviour (the trigger policy's settle)."""
TITLES_A_ROW = 12
FEWEST_SHOPPERS = 5
"""A query that fewer searched is read in histories, and written in no list: mostly it is mistyped, and a rare shopper's words are nobody's hint."""
VOCABULARY_TEXTS = 200_000


class Shape(NamedTuple):
    """Of a new decoder."""

    vocabulary: int = 2_048
    hidden: int = 128
    layers: int = 4


class _Market(msgspec.Struct):
    """What is read of market.json."""

    law: str
    seed: int
    drift: float
    start_ms: int
    days: int
    null: bool = False

    @property
    def told(self) -> str:
        null = ", null" if self.null else ""
        return f"simulated: {self.law}{null}, seed {self.seed}, drift {self.drift:g}"


class _RealLog(msgspec.Struct):
    """What is read of log.json."""

    name: str
    start_ms: int
    days: int

    @property
    def told(self) -> str:
        return self.name


class Told(NamedTuple):
    """What a shop knows of its shoppers and its goods."""

    log: Log
    """Up to the cut-off."""
    profiles: Mapping[str, Mapping[str, str]]
    titles: Sequence[str]
    name: str
    """For the card."""


def pretrain(
    told: Told,
    out: Path,
    recipe: Recipe,
    shape: Shape = Shape(),
    base: BaseModel | None = None,
    plain: bool = False,
    lists: bool = True,
    name: Name = Name(),
    checkpoint_s: float = CHECKPOINT_S,
) -> ModelBundle:
    """Trains a new decoder of `shape`, or goes on with `base`. Returns the bundle in OUT/bundle, and raises what `fine_tune` does.

    `lists`: every stretch ends in the list of the searches by themselves that followed it, as far as the log tells.
    """
    if wrong := recipe.errors():
        raise ValueError("; ".join(wrong))
    if not len(told.log):
        raise ValueError(f"{told.name}: the log is empty before the cut-off")
    if base is None:
        texts = VOCABULARY_TEXTS
        tokenizer = train_tokenizer(chain(_words(told.log, texts, recipe.seed), told.titles[:texts]), shape.vocabulary)
        model = new_decoder(tokenizer, shape.hidden, shape.layers, recipe.seed).train()
        base = BaseModel(model, tokenizer, f"new, {shape.hidden} x {shape.layers}", f"{shape} {recipe.seed}", own=True)
    longest = min(MAX_TOKENS, base.longest)
    apart: dict[bool, list[Text]] = {False: [], True: []}
    for user, text in stretches(told, recipe.seed, plain, lists):
        apart[held_out(user)].append(text)
    rows = rows_of(apart[False], base.tokenizer, longest, True, plain)
    rows += rows_of(title_texts(told.titles, recipe.seed), base.tokenizer, longest)
    kept = rows_of(apart[True], base.tokenizer, longest, True, plain)[: recipe.held_out]
    say(f"{told.name}: {len(told.log)} behaviours, {len(told.titles)} titles")
    return run(out, "pretrain", base, Data(rows, kept, told.name), recipe, plain, name, checkpoint_s)


def stretches(told: Told, seed: int, plain: bool, lists: bool) -> Iterator[tuple[str, Text]]:
    """(shopper, text): every behaviour stands in one stretch. The first of a shopper's has a random length, so prompts of all lengths are
    seen, as newcomers and regulars bring them."""
    log = told.log
    order = np.argsort(log.user, kind="stable")  # by shopper, and by time within
    bounds = np.flatnonzero(np.diff(log.user[order])) + 1
    listed = _listed(log)
    for of_user in np.split(order, bounds):
        user = log.users[log.user[of_user[0]]]
        begin, end = 0, Random(f"stretches {seed} {user}").randint(1, MOST_BEHAVIOURS)
        while begin < len(of_user):
            shown = [_behaviour(log, i) for i in of_user[begin:end].tolist()]
            prompt = build_prompt(told.profiles.get(user, {}), shown, shown[-1].time_ms + SETTLE_MS, plain)
            yield user, Text(prompt, _next_list(log, of_user[end:], listed) if lists else "")
            begin, end = end, end + MOST_BEHAVIOURS


def title_texts(titles: Iterable[str], seed: int) -> Iterator[Text]:
    """Some titles a row, in random order; an item's title is learned although nobody clicked it."""
    distinct = sorted(set(titles))
    Random(f"titles {seed}").shuffle(distinct)
    for i in range(0, len(distinct), TITLES_A_ROW):
        yield Text("", answer(distinct[i : i + TITLES_A_ROW]))


def market_told(folder: Path, test_days: int) -> Told:
    """The training days of a market's folder, or of an imported log's. Raises FileNotFoundError or ValueError where it is none."""
    from training.log_files import read_log, read_profiles

    facts = _facts(folder)
    cut_ms = facts.start_ms + (facts.days - test_days) * DAY_MS
    archive = folder / "archive"
    log = read_log(archive).before(cut_ms)
    if isinstance(facts, _Market):
        titles = pq.read_table(folder / "items.parquet", columns=["title"])["title"].to_pylist()
    else:  # no catalogue of that day is known, and a later one would tell what came out since
        titles = sorted({log.texts[text] for text in log.text[~log.is_search]})
    name = f"{facts.told}, the first {facts.days - test_days} days"
    return Told(log, read_profiles(archive, cut_ms), titles, name)


def _facts(folder: Path) -> "_Market | _RealLog":
    for name, kind in (("market.json", _Market), ("log.json", _RealLog)):
        if (folder / name).exists():
            return msgspec.json.decode((folder / name).read_bytes(), type=kind)
    raise FileNotFoundError(
        f"{folder} has no market.json and no log.json: no market and no log, or an unfinished one. `aigq simulate` makes "
        "the one, `aigq import-log` the other"
    )


def _listed(log: Log) -> np.ndarray:
    """bool, of each behaviour: a search by themselves of a query that enough shoppers searched by themselves."""
    own = log.is_search & log.by_themselves
    pairs = np.unique(log.user[own].astype(np.int64) * len(log.texts) + log.text[own])
    shoppers = np.bincount(pairs % len(log.texts), minlength=len(log.texts))
    return own & (shoppers >= FEWEST_SHOPPERS)[log.text]


def _next_list(log: Log, rows: np.ndarray, listed: np.ndarray) -> str:
    """The next such searches that differ from each other as the output parser wants it."""
    found: list[str] = []
    words: list[frozenset[str]] = []
    for row in rows[listed[rows]].tolist():
        query = log.texts[log.text[row]]
        these = frozenset(normalise(query).split())
        if these and not any(near_duplicates(these, other) for other in words):
            found.append(query)
            words.append(these)
            if len(found) == LIST_LENGTH:
                break
    return list_target(found) if found else ""


def _behaviour(log: Log, row: int) -> Behaviour:
    kind = "search" if log.is_search[row] else "click"
    return Behaviour(int(log.time_ms[row]), row, kind, log.texts[log.text[row]], log.categories[log.category[row]])


def _words(log: Log, most: int, seed: int) -> Iterator[str]:
    """Texts as often as they occur: a vocabulary is made of what is said often."""
    rows = list(range(len(log)))
    if len(rows) > most:
        rows = Random(f"vocabulary {seed}").sample(rows, most)
    return (f" {log.texts[log.text[row]].lower()}" for row in rows)
