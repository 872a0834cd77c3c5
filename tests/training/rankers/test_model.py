"""A bundle as a contender: what is served comes first, the model itself decides on every place, nothing is decoded twice."""

from pathlib import Path

import msgspec
import pytest

from inference.allow_list import FILE_NAME, AllowList
from inference.allowed_prefixes import Prefixes
from inference.model_bundle import ModelBundle
from inference.output import QueryList, QueryRules, normalise, parse_list
from inference.prompt import build_prompt
from schemas import Behaviour
from tests.training.yardstick.small_market import events_and_pages
from training.decode import greedy
from training.decoder import load_decoder, write_card
from training.log import Case, Log
from training.log_files import log_of
from training.rankers import model as module
from training.rankers.model import ModelRanker, prompts_of
from training.rankers.more_lists import another_list
from training.tiny import random_bundle

SHIPPED = Path(__file__).parents[3] / "models" / "aigq-small" / "3"
TEXTS = ("dell laptop", "hp laptops", "lens", "usb hub", "microphone", "camera bag")


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return ModelBundle.open(SHIPPED)


@pytest.fixture(scope="module")
def log() -> Log:
    return log_of(*events_and_pages(60, 14))


def cases(n: int) -> list[Case]:
    made = []
    for i in range(n):
        seen = tuple(Behaviour(k * 60_000, k, "search", TEXTS[(i + k) % len(TEXTS)]) for k in range(1 + i % 4))
        made.append(Case(f"u{i}", 500_000, {"age": "30"}, seen, "tv", ("tv",)))
    return made


def test_the_first_ten_are_the_served_list(bundle: ModelBundle, log: Log, tmp_path: Path):
    asked = cases(6)
    ranker = ModelRanker(bundle, tmp_path, lists=2)
    ranker.fit(log)
    prompts = [build_prompt(case.profile, case.seen, case.as_of_ms) for case in asked]
    allowed = AllowList.read(bundle.path / FILE_NAME)
    prefixes, rules = Prefixes.of(allowed, bundle.tokenizer), QueryRules(supported=allowed.queries)
    outputs = greedy(load_decoder(bundle), bundle.tokenizer, prompts, allowed=prefixes)
    for made, (text, ended) in zip(ranker.rank(asked, 30), outputs, strict=True):
        served = parse_list(text, rules, "stop" if ended else "length")
        assert isinstance(served, QueryList)
        assert made[: len(served.queries)] == tuple(map(normalise, served.queries))
        assert len(made) == len(set(made)) >= 20
    assert ranker.valid(asked).tolist() == [1.0] * 6


def test_another_list_holds_nothing_of_the_lists_before(bundle: ModelBundle):
    model, prompts = load_decoder(bundle), [build_prompt(c.profile, c.seen, c.as_of_ms) for c in cases(4)]
    first = [parse_list(text, QueryRules()) for text, _ in greedy(model, bundle.tokenizer, prompts)]
    listed = [made.queries for made in first if isinstance(made, QueryList)]
    assert len(listed) == 4
    again = another_list(model, bundle.tokenizer, prompts, [()] * 4, batch=2)
    assert [parse_list(text, QueryRules()) for text, _ in again] == first
    more = [
        parse_list(text, QueryRules()) for text, _ in another_list(model, bundle.tokenizer, prompts, listed, batch=2)
    ]
    for before, after in zip(listed, more, strict=True):
        assert isinstance(after, QueryList)
        assert not set(map(normalise, before)) & set(map(normalise, after.queries))


def test_what_is_written_once_is_read_the_next_time(
    bundle: ModelBundle, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ranker = ModelRanker(bundle, tmp_path, lists=1)
    ranker.fit(log)
    lists = ranker.rank(cases(5), 30)
    again = ModelRanker(bundle, tmp_path, lists=1)
    again.fit(log)
    monkeypatch.setattr(ModelRanker, "_written", None)
    assert again.rank(cases(5), 30) == lists
    with pytest.raises(TypeError):
        again.rank(cases(6), 30)


def test_an_output_that_is_no_list_is_invalid_and_its_places_are_filled(log: Log, tmp_path: Path):
    ranker = ModelRanker(random_bundle(tmp_path / "bundle"), tmp_path / "cache", lists=1)
    ranker.fit(log)
    asked = cases(8)
    valid, lists = ranker.valid(asked), ranker.rank(asked, 10)
    assert valid.mean() < 1
    popular = module.ModelRanker.rank(ranker, [Case("x", 0, {}, (), "", ())], 10)
    assert len(popular[0]) == 10
    for good, made in zip(valid, lists, strict=True):
        assert len(made) == 10
        assert good or made == tuple(ranker._popular[:10])


def test_a_model_is_asked_in_the_prompts_that_it_was_trained_on(tmp_path: Path):
    compressed = random_bundle(tmp_path / "model")
    (case,) = cases(1)
    assert prompts_of(compressed, [case]) == [build_prompt(case.profile, case.seen, case.as_of_ms)]
    write_card(compressed.path, msgspec.structs.replace(compressed.card, recipe={"prompts": "plain"}))
    plain = ModelBundle.open(compressed.path)
    assert prompts_of(plain, [case]) == [build_prompt(case.profile, case.seen, case.as_of_ms, plain=True)]
