"""The beams against every query of the list scored by itself."""

import training  # noqa: F401, I001  (before torch: see its docstring)

import numpy as np
import pytest
import torch

from inference.allow_list import AllowedQuery, AllowList
from inference.allowed_prefixes import Prefixes
from inference.vocabulary import END, token_id, train_tokenizer
from training.decoder import new_decoder
from training.likeliest import likeliest

QUERIES = [
    f"{brand} {thing}{end}"
    for brand in ("acer", "dell", "hp", "")
    for thing in ("laptop", "lap desk", "bag", "dock")
    for end in ("", "s")
]
PROMPTS = [
    "<1><now><search> dell laptop<list>",
    "<1><1_day_ago><search> bag;;<2><now><click> hp dock, black<list>",
    "<list>",
]


@pytest.fixture(scope="module")
def made():
    queries = [query.strip() for query in QUERIES]
    tokenizer = train_tokenizer([f" {query}" for query in queries] * 4, 300)
    model = new_decoder(tokenizer, 64, 2, seed=3).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3)  # far from uniform
    allowed = AllowList.of(AllowedQuery(query, query, 9) for query in queries)
    return model, tokenizer, Prefixes.of(allowed, tokenizer), queries


def scored_alone(model, tokenizer, prompt: str, query: str) -> float:
    before, tokens = tokenizer.encode(prompt).ids, tokenizer.encode(f" {query}").ids
    with torch.no_grad():
        log_p = torch.log_softmax(model(torch.tensor([before + tokens])).logits[0], dim=-1)
    at = len(before) - 1
    stops = [token_id(tokenizer, ";;"), token_id(tokenizer, END)]
    return (
        sum(log_p[at + i, token].item() for i, token in enumerate(tokens))
        + torch.logsumexp(log_p[at + len(tokens), stops], 0).item()
    )


def test_the_likeliest_are_those_of_all_queries_scored_alone(made):
    model, tokenizer, prefixes, queries = made
    found = dict(likeliest(model, tokenizer, PROMPTS, prefixes, 6, beams=40, batch=2))
    assert sorted(found) == [0, 1, 2]
    for i, prompt in enumerate(PROMPTS):
        alone = {query: scored_alone(model, tokenizer, prompt, query) for query in queries}
        best = sorted(alone, key=lambda query: -alone[query])[:6]
        assert [each.text for each in found[i]] == best
        assert np.allclose([each.log_p for each in found[i]], [alone[query] for query in best], atol=1e-4)


def test_what_gains_moves_up_even_where_the_model_would_not_look(made):
    model, tokenizer, prefixes, queries = made
    gain = {query: 1.5 * ((i % 5) - 2) for i, query in enumerate(queries)}
    found = dict(likeliest(model, tokenizer, PROMPTS, prefixes, 6, beams=40, batch=2, gain=gain))
    for i, prompt in enumerate(PROMPTS):
        alone = {query: scored_alone(model, tokenizer, prompt, query) + gain[query] for query in queries}
        best = sorted(alone, key=lambda query: -alone[query])[:6]
        assert [each.text for each in found[i]] == best
        assert np.allclose([each.log_p for each in found[i]], [alone[query] for query in best], atol=1e-4)


def test_few_beams_find_true_scores_in_order_and_nothing_that_is_not_allowed(made):
    model, tokenizer, prefixes, queries = made
    for i, few in likeliest(model, tokenizer, PROMPTS, prefixes, 6, beams=4):
        scores = [each.log_p for each in few]
        assert few
        assert scores == sorted(scores, reverse=True)
        for each in few:
            assert each.text in queries
            assert each.log_p == pytest.approx(scored_alone(model, tokenizer, PROMPTS[i], each.text), abs=1e-4)
