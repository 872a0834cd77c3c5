"""Pretraining reads behaviour before the cut-off and titles, each behaviour once, and its bundle is what arms are forked from."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import BehaviourEvent
from tests.training.small_samples import write_samples
from tests.training.yardstick.small_market import DAY_MS, START_MS, SUBJECTS, write_market
from training.base_model import open_base
from training.il_sft import fine_tune
from training.il_sft_recipe import Recipe
from training.il_sft_rows import Text
from training.log_files import log_of
from training.pretrain import TITLES_A_ROW, Shape, Told, market_told, pretrain, stretches, title_texts
from training.progress import read_curve

RECIPE = Recipe(samples=120, batch_tokens=2_048, unlearn=0.0, dtype="float32", threads=1)
SHAPE = Shape(vocabulary=400, hidden=64, layers=1)
DAYS, TEST_DAYS = 12, 2


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_market(tmp_path_factory.mktemp("market") / "m", days=DAYS)
    titles = [f"Acme - {query.title()} {i}00" for queries in SUBJECTS.values() for i, query in enumerate(queries)]
    pq.write_table(pa.table({"title": [*titles, "Nobody's Choice 9000"]}), folder / "items.parquet")
    return folder


@pytest.fixture(scope="module")
def told(market: Path) -> Told:
    return market_told(market, TEST_DAYS)


def test_nothing_of_the_test_days_is_read(told: Told):
    assert START_MS < int(told.log.time_ms[-1]) < START_MS + (DAYS - TEST_DAYS) * DAY_MS
    assert "first 10 days" in told.name


def test_every_behaviour_stands_in_one_stretch_of_its_shopper(told: Told):
    shown: Counter[str] = Counter()
    for user, text in stretches(told, seed=1, plain=True, lists=False):
        shown[user] += text.prompt.count("|search|") + text.prompt.count("|click|")
    numbers, counts = np.unique(told.log.user, return_counts=True)
    assert shown == {told.log.users[n]: count for n, count in zip(numbers.tolist(), counts.tolist(), strict=True)}


def test_stretches_of_all_lengths_and_with_profiles_are_seen(told: Told):
    texts = [text for _, text in stretches(told, seed=1, plain=False, lists=False)]
    assert len({text.prompt.count(";;") for text in texts}) > 8
    assert all("Profile: {n: " in text.prompt for text in texts)


def test_a_stretch_ends_in_the_searches_by_themselves_that_followed_it(told: Told):
    log = told.log
    with_list = [(user, text) for user, text in stretches(told, seed=1, plain=False, lists=True) if text.answer]
    assert with_list
    for user, text in with_list:
        mine = [i for i in range(len(log)) if log.users[log.user[i]] == user]
        own = {log.texts[log.text[i]] for i in mine if log.is_search[i] and log.by_themselves[i]}
        queries = text.answer.removesuffix("<end>").split(";;")
        assert len(queries) == len(set(queries))
        assert {query.strip() for query in queries} <= own


def test_what_few_shoppers_searched_is_in_no_list_but_is_read():
    searches = [("rare words", 4), ("often searched", 5)]
    events = [
        BehaviourEvent(f"{query} {i} {again}", f"u{i}", "search", START_MS + again * 60_000, query=query)
        for query, shoppers in searches
        for i in range(shoppers)
        for again in range(25)
    ]
    log = log_of(sorted(events, key=lambda event: event.time_ms))
    texts = [text for _, text in stretches(Told(log, {}, [], "few"), seed=1, plain=False, lists=True)]
    assert {text.answer for text in texts} == {"", " often searched"}
    assert any("rare words" in text.prompt for text in texts)


def test_every_title_is_learned_once_in_an_order_of_the_seed():
    titles = [f"Title {i}" for i in range(30)]
    texts = list(title_texts([*titles, *titles], seed=1))
    assert [len(text.answer.split(";;")) for text in texts] == [TITLES_A_ROW, TITLES_A_ROW, 6]
    assert sorted(t.strip() for text in texts for t in text.answer.split(";;")) == sorted(t.lower() for t in titles)
    assert texts == list(title_texts(titles, seed=1)) != list(title_texts(titles, seed=2))
    assert list(title_texts([], seed=1)) == []
    assert texts[0] == Text("", texts[0].answer)


def test_an_arm_is_forked_from_what_pretraining_made(told: Told, tmp_path: Path):
    bundle = pretrain(told, tmp_path / "pretrain", RECIPE, SHAPE)
    curve = read_curve(tmp_path / "pretrain")
    assert curve.held_out[-1] < 0.8 * curve.held_out[0] if curve.held_out else curve.answer[-1] is not None
    assert bundle.card.recipe["stage"] == "pretrain"
    assert bundle.card.data == "simulated: small, seed 1, drift 0.5, the first 10 days"
    again = pretrain(told, tmp_path / "again", RECIPE, SHAPE)
    assert (bundle.path / "model.safetensors").read_bytes() == (again.path / "model.safetensors").read_bytes()
    arm = fine_tune(write_samples(tmp_path / "samples", 40), str(bundle.path), tmp_path / "arm", RECIPE)
    assert arm.card.recipe["base"] == "aigq-small 1"
    on = pretrain(told, tmp_path / "on", RECIPE, base=open_base(str(arm.path)))
    assert on.card.parameters == bundle.card.parameters


def test_a_folder_that_is_no_market_and_an_empty_log_are_named(told: Told, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="aigq simulate"):
        market_told(tmp_path, 2)
    with pytest.raises(ValueError, match="empty before the cut-off"):
        pretrain(told._replace(log=told.log.before(0)), tmp_path, RECIPE, SHAPE)
    with pytest.raises(ValueError, match="renew"):
        pretrain(told, tmp_path, msgspec.structs.replace(RECIPE, renew=0), SHAPE)
