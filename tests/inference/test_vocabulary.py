"""The vocabulary: one token for each field of a behaviour, started from what it says in plain words."""

import pytest
import torch

from inference.vocabulary import END, SPECIAL_TOKENS, start_special_tokens, token_id, train_tokenizer

TEXTS = ["1 day ago", "just now", "search click queries", "dell laptop", "dell laptop"] * 3


def test_every_special_token_is_one_token():
    tokenizer = train_tokenizer(TEXTS, size=400)
    assert all(tokenizer.encode(token).ids == [token_id(tokenizer, token)] for token in SPECIAL_TOKENS)


def test_the_same_texts_give_the_same_vocabulary():
    assert train_tokenizer(TEXTS, size=400).to_str() == train_tokenizer(TEXTS, size=400).to_str()


def test_a_special_token_starts_as_the_mean_of_its_plain_forms_sub_words():
    tokenizer = train_tokenizer(TEXTS, size=400)
    embedding = torch.randn(tokenizer.get_vocab_size(), 8)
    before = embedding.clone()
    start_special_tokens(embedding, tokenizer)
    plain = tokenizer.encode(" 1 day ago").ids
    assert torch.allclose(embedding[token_id(tokenizer, "<1_day_ago>")], before[plain].mean(dim=0))
    assert torch.equal(embedding[plain], before[plain])


def test_a_missing_token_is_named():
    with pytest.raises(KeyError, match="<x>"):
        token_id(train_tokenizer(TEXTS, size=400), "<x>")
    assert END in SPECIAL_TOKENS
