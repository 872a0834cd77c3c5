"""What an allow-list costs and does, by `python -m bench.allow_list`: microseconds a row and step of decoding, memory, and how
many of the shipped model's lists are whole and hit, free, filtered afterwards, and written under the allow-list.

The list is the bundle's own; shoppers and moments are none that the model was trained on.
"""

import time
import tracemalloc
from pathlib import Path
from random import Random

import training  # noqa: F401  (before torch: its threads)

import torch  # isort: skip
from tokenizers import Tokenizer

from bench.unseen import unseen_cases
from inference.allow_list import FILE_NAME, LEAST_SHOPPERS, AllowedQuery, AllowList
from inference.allowed_logits import restrict
from inference.allowed_prefixes import Prefixes, Standing
from inference.distinct import Listed, stops_of
from inference.model_bundle import ModelBundle
from inference.model_versions import latest
from inference.output import QueryList, QueryRules, normalise, parse_list
from inference.prompt import content
from training.decode import greedy
from training.decoder import load_decoder
from training.rankers.model import prompts_of

QUERIES, ROUNDS, STEPS, SHOPPERS = 50_000, 5, 60, 150


def main() -> None:
    current = latest(Path("models"), "aigq-small")
    assert current is not None, "run it in the repository's root"
    bundle = ModelBundle.open(current.path)
    torch.set_num_threads(1)
    cost(bundle.tokenizer)
    lists(bundle)


def cost(tokenizer: Tokenizer) -> None:
    rng = Random(1)
    words = sorted({word for token in tokenizer.get_vocab() if (word := token.strip("Ġ")).isalpha() and len(word) > 2})
    queries: set[str] = set()
    while len(queries) < QUERIES:
        queries.add(content(" ".join(rng.sample(words, rng.randint(1, 4)))))
    allowed = AllowList.of(AllowedQuery(normalise(query), query, LEAST_SHOPPERS) for query in queries)
    tracemalloc.start()
    began = time.perf_counter()
    prefixes = Prefixes.of(allowed, tokenizer)
    seconds, held = time.perf_counter() - began, tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(
        f"{QUERIES:,} queries: {len(prefixes.tokens):,} nodes, {held / 1e6:.0f} MB, made in {seconds:.1f} s (traced); "
        f"a query begins with one of {len(range(*prefixes.children(0)))} tokens of {tokenizer.get_vocab_size()}"
    )
    for rows in (1, 256):
        free, bound = (least(tokenizer, rows, each) for each in (None, prefixes))
        print(
            f"{rows:4} rows: {bound:5.1f} us a row and step under the allow-list, {free:5.1f} us to keep queries distinct"
        )


def least(tokenizer: Tokenizer, rows: int, prefixes: Prefixes | None) -> float:
    """Microseconds that the rule takes for a row and step: of each step the least of several rounds, which are all the same."""
    rounds = [steps(tokenizer, rows, prefixes) for _ in range(ROUNDS)]
    return sum(map(min, zip(*rounds, strict=True))) / (rows * STEPS) * 1e6


def steps(tokenizer: Tokenizer, rows: int, prefixes: Prefixes | None) -> list[float]:
    """Seconds of the rule in each step."""
    written: list[list[int]] = [[] for _ in range(rows)]
    stops = stops_of(tokenizer)
    standings = {row: Standing(prefixes, each) for row, each in enumerate(written)} if prefixes else {}
    listed = [] if prefixes else [Listed(stops, each) for each in written]
    spent, random = [], torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        logits = torch.randn(rows, tokenizer.get_vocab_size(), generator=random)
        logits[:, list(stops)] += 2.0  # some five tokens a query
        began = time.perf_counter()
        restrict(logits, standings)
        for row, each in enumerate(listed):
            if tokens := each.banned():
                logits[row, list(tokens)] = float("-inf")
        spent.append(time.perf_counter() - began)
        for each, token in zip(written, logits.argmax(dim=1).tolist(), strict=True):
            each.append(token)
    return spent


def lists(bundle: ModelBundle) -> None:
    allowed = AllowList.read(bundle.path / FILE_NAME)
    print(f"searched by at least {LEAST_SHOPPERS} shoppers: {len(allowed.rows):,} queries")
    tested = unseen_cases(9, SHOPPERS)
    prompts, model = prompts_of(bundle, tested), load_decoder(bundle)
    free = greedy(model, bundle.tokenizer, prompts)
    bound = greedy(model, bundle.tokenizer, prompts, allowed=Prefixes.of(allowed, bundle.tokenizer))
    only = QueryRules(supported=allowed.queries)
    for name, outputs, rules in (
        ("free", free, QueryRules()),
        ("free, filtered", free, only),
        ("allow-list", bound, only),
    ):
        parsed = [parse_list(text, rules, "stop" if ended else "length") for text, ended in outputs]
        made = [each.queries if isinstance(each, QueryList) else () for each in parsed]
        dropped = [reason for each in parsed for reason in each.dropped]
        hits = sum(case.next in map(normalise, queries) for case, queries in zip(tested, made, strict=True))
        print(
            f"{name:15} {len(tested)} lists: malformed {made.count(()) / len(tested):.2%}, ten queries "
            f"{sum(len(queries) == 10 for queries in made) / len(tested):.1%}, unsupported queries dropped "
            f"{dropped.count('unsupported') / len(tested):.2f} a list, duplicates {dropped.count('duplicate') / len(tested):.2f}, "
            f"next query among them {hits / len(tested):.3f}"
        )  # fmt: skip


if __name__ == "__main__":
    main()
