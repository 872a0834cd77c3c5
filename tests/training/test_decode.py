"""Our loop writes what transformers' `generate` writes, whatever the lengths of prompts and answers."""

import training  # noqa: F401, I001  (before torch: see its docstring)

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from inference.allow_list import AllowedQuery, AllowList
from inference.allowed_prefixes import Prefixes
from inference.prompt import SEPARATOR
from inference.vocabulary import END, PAD, token_id, train_tokenizer
from training.decode import greedy, greedy_ids, kept_in_fp16
from training.decoder import Decoder, new_decoder

WORDS = "acer dell hp laptop lap desk bag dock".split()
PROMPTS = [f"<1><now><search>{' dell laptop' * n}<list>" for n in (1, 9, 3, 0, 20, 6, 2, 12)]
MOST = 24


def llama(tokenizer: Tokenizer) -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=512,
        pad_token_id=token_id(tokenizer, PAD),
        eos_token_id=token_id(tokenizer, END),
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def made(request) -> tuple[Decoder, Tokenizer]:
    tokenizer = train_tokenizer([f" {' '.join(WORDS)}"] * 4, 300)
    model = (new_decoder(tokenizer, 128, 2, seed=3) if request.param == "qwen3" else llama(tokenizer)).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3)  # far from uniform: no choice hangs on the last bit
    return model, tokenizer


@pytest.fixture
def prompts(made) -> list[list[int]]:
    return [encoding.ids for encoding in made[1].encode_batch(PROMPTS)]


def by_transformers(model: Decoder, prompts: list[list[int]], end: int, pad: int) -> list[list[int]]:
    """One prompt at a time: no padding at all."""
    answers = []
    for ids in prompts:
        written = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (its protocol knows no properties)
            input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=MOST, eos_token_id=end, pad_token_id=pad
        )
        answers.append(written[0, len(ids) :].tolist())
    return answers


def test_answers_are_those_of_transformers_for_each_prompt_alone(made, prompts, monkeypatch: pytest.MonkeyPatch):
    model, tokenizer = made
    pad = token_id(tokenizer, PAD)
    free = by_transformers(model, prompts, -1, pad)
    # As the end of an answer whatever some answers hold early, some late and some not at all.
    tokens = {token for answer in free for token in answer}
    end = max(tokens, key=lambda token: len({answer.index(token) if token in answer else MOST for answer in free}))
    monkeypatch.setattr("training.decode.token_id", lambda _, text: end if text == END else pad)
    expected = by_transformers(model, prompts, end, pad)
    assert len({len(answer) for answer in expected}) > 2
    assert greedy_ids(model, tokenizer, prompts, MOST, distinct=False) == expected


def test_the_model_is_left_as_it_was(made, prompts):
    model, tokenizer = made
    before = model.config._attn_implementation
    greedy_ids(model, tokenizer, prompts[:1], 2)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("with_allow_list", [True, False])
def test_a_row_is_written_alike_alone_and_in_a_batch_that_shrinks(made, with_allow_list: bool):
    model, tokenizer = made
    queries = [f"{brand} {thing}" for brand in WORDS[:3] for thing in WORDS[3:]]
    allowed = Prefixes.of(AllowList.of(AllowedQuery(q, q, 9) for q in queries), tokenizer) if with_allow_list else None
    listed = [tokenizer.encode(f" {queries[i]}{SEPARATOR}").ids for i in range(len(PROMPTS))]
    for before in (None, listed):
        together = greedy(model, tokenizer, PROMPTS, 5, allowed, before)
        for i, prompt in enumerate(PROMPTS):
            assert greedy(model, tokenizer, [prompt], 1, allowed, [before[i]] if before else None) == [together[i]]
        if allowed:
            found = [[query.strip() for query in text.split(SEPARATOR)] for text, _ in together]
            assert all(set(each) <= set(queries) for each in found)
            assert before is None or all(queries[i] not in each for i, each in enumerate(found))


def test_rounding_keeps_lists_and_is_seen_where_it_does_not(made, prompts, monkeypatch: pytest.MonkeyPatch):
    model, tokenizer = made
    assert kept_in_fp16(model, tokenizer, prompts) >= 0.4  # of a hundred random tokens each
    other = llama(tokenizer).eval()
    monkeypatch.setattr("training.decode.deepcopy", lambda _: other)
    assert kept_in_fp16(model, tokenizer, prompts) < 1
