"""What is unlearned: the queries that the output parser drops as duplicates, each as a whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.model_bundle import ModelBundle
from inference.output import QueryList, QueryRules, parse_list
from inference.vocabulary import END, token_id
from training.decoder import load_decoder
from training.repeats import OwnLists, Span, own_lists, repeat_loss, repeats
from training.tiny import random_bundle

PROMPT = "Please recommend<list>"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> ModelBundle:
    return random_bundle(tmp_path_factory.mktemp("bundle"))


def found(text: str, bundle: ModelBundle) -> list[str]:
    ids = bundle.tokenizer.encode(text).ids
    return [
        bundle.tokenizer.decode(ids[start:stop], skip_special_tokens=False)
        for start, stop in repeats(ids, bundle.tokenizer)
    ]


def test_a_repeat_is_a_query_with_the_words_of_an_earlier_one_and_the_token_that_ends_it(bundle: ModelBundle):
    assert found(f" hp laptop;; dell;; laptop hp;; hp;; dell{END}", bundle) == [" laptop hp;;", f" dell{END}"]
    assert found(f" hp laptop;; hp laptop case;; hp{END}", bundle) == []


def test_a_query_that_was_cut_off_repeats_nothing(bundle: ModelBundle):
    assert found(" dell;; hp;; dell", bundle) == []


@given(st.lists(st.lists(st.sampled_from("a bb cc dd ee ff".split()), min_size=1, max_size=6), min_size=1, max_size=10))
def test_what_is_found_is_what_the_output_parser_drops(bundle: ModelBundle, queries: list[list[str]]):
    rules = QueryRules(fewest=1, shortest=1)
    text = ";;".join(" " + " ".join(words) for words in queries)
    parsed = parse_list(text, rules)
    assert isinstance(parsed, QueryList)
    assert len(found(text + END, bundle)) == parsed.dropped.count("duplicate")


def test_unlearning_lowers_the_probability_of_the_repeat_and_spares_the_first_mention(bundle: ModelBundle):
    torch.manual_seed(1)
    model, tokenizer = load_decoder(bundle), bundle.tokenizer
    prompt = tokenizer.encode(PROMPT).ids
    answer = tokenizer.encode(f" dell;; hp;; dell{END}").ids
    (repeat,) = repeats(answer, tokenizer)
    first = 0, repeat[1] - repeat[0]
    start, stop = (len(prompt) + place for place in repeat)
    own = OwnLists(1, 0, torch.tensor([prompt + answer]), [Span(0, start, stop)])

    def log_probability(span: tuple[int, int]) -> float:
        with torch.no_grad():
            each = model(input_ids=own.inputs).logits[0].log_softmax(-1)
        places = range(len(prompt) + span[0], len(prompt) + span[1])
        return sum(each[place - 1, own.inputs[0, place]].item() for place in places)

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):  # a model that knows the list, the repeat included
        optimizer.zero_grad()
        model(input_ids=own.inputs, labels=own.inputs).loss.backward()
        optimizer.step()
    before = log_probability(repeat), log_probability(first)
    for _ in range(5):
        optimizer.zero_grad()
        repeat_loss(model, own).backward()
        optimizer.step()
    after = log_probability(repeat), log_probability(first)
    assert after[0] < before[0] - 1
    assert before[1] - after[1] < before[0] - after[0]


def test_a_batch_of_own_lists_holds_those_that_repeat_and_their_loss_is_per_slot_of_all(bundle: ModelBundle):
    model, tokenizer = load_decoder(bundle), bundle.tokenizer
    prompts = [tokenizer.encode(text).ids for text in (PROMPT, "Please<list>", "Profile<list>")]
    own = own_lists(model, tokenizer, prompts)
    assert own.lists == 3
    assert own.lists - own.distinct == len(own.inputs)
    assert {span.row for span in own.spans} == set(range(len(own.inputs)))
    nothing = repeat_loss(model, OwnLists(3, 3, torch.zeros((0, 0), dtype=torch.long), []))
    assert nothing == 0

    stop = token_id(tokenizer, END)
    ids = tokenizer.encode(f"{PROMPT} hp;; hp").ids
    inputs, spans = torch.tensor([[*ids, stop]]), [Span(0, len(ids) - 1, len(ids) + 1)]
    alone, among = (repeat_loss(model, OwnLists(n, n - 1, inputs, spans)) for n in (1, 4))
    assert torch.allclose(alone, 4 * among)
