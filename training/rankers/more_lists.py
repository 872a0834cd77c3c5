"""Another greedy list for the same prompt, in which what was listed before counts as listed already: how a model that writes ten
queries decides on thirty. The rules are the job's (inference.distinct, or the allow-list where the bundle has one).
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

from inference.allowed_prefixes import Prefixes
from inference.prompt import SEPARATOR, answer
from inference.vocabulary import token_id
from training.decode import greedy
from training.decoder import Decoder


def another_list(
    model: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    listed: Sequence[Sequence[str]],
    batch: int,
    allowed: Prefixes | None = None,
) -> list[tuple[str, bool]]:
    """(text, whether it came to its end) for each prompt; `listed` are the queries that it may not write."""
    separator = token_id(tokenizer, SEPARATOR)
    # Every listed query is closed by a separator, so that the new list begins a query.
    before = [[*tokenizer.encode(answer(queries)).ids, separator] if queries else [] for queries in listed]
    return greedy(model, tokenizer, prompts, batch, allowed, before)
