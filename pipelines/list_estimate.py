"""What lists that are to be asked for would cost: the preview of a backfill or a regeneration. Writes nothing."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from inference.model_bundle import ModelBundle
from inference.model_versions import latest
from inference.prompt import build_prompt
from pipelines.list_requests import AT_ONCE, Judge
from store.client import ShopperStore
from store.codec import compress, encode_run
from transforms.generate_queries import decode_change

SAMPLE = 300
"""Prompts and stored lists that the means are of."""
ASSUMED_OUTPUT_TOKENS = 60.0
ASSUMED_BYTES = 300.0
MEASURED = Path(__file__).parent.parent / "bench" / "results" / "generation.json"


@dataclass(frozen=True)
class Prices:
    """What tokens take. 0: `tokens_per_s` as measured here, no price."""

    tokens_per_s: float = 0.0
    """Output tokens a second that the job makes."""
    gpu_hour: float = 0.0


@dataclass(frozen=True)
class Estimate:
    shoppers: int
    lists: int
    skipped: dict[str, int]
    """Shoppers by the reason why no list is asked for."""
    prompt_tokens: float
    """Of all lists together; 0 where no model is promoted."""
    output_tokens: float
    store_bytes: float
    model_hours: float | None
    """Of all workers' accelerators together, at the pace of `Prices.tokens_per_s`; None where nobody has measured one."""
    price: float | None
    per_second: float
    """Lists that the command asks for a second."""
    made_of: tuple[str, ...] = field(default=())
    """Where the figures come from, a line each."""

    def lines(self) -> list[str]:
        skipped = "; ".join(f"{reason} {count:,}" for reason, count in sorted(self.skipped.items())) or "none"
        model_time = f"{self.model_hours:,.2f} hours of" if self.model_hours is not None else "unknown"
        cost = f"{self.price:,.2f} at the price given" if self.price is not None else "give --gpu_hour_price"
        return [
            f"{self.shoppers:,} shoppers, {self.lists:,} lists to ask for at most, each a change at low priority",
            f"not asked for: {skipped}",
            f"{self.prompt_tokens:,.0f} prompt tokens, {self.output_tokens:,.0f} output tokens, {model_time} model (GPU) time",
            f"cost: {cost}",
            f"{self.store_bytes:,.0f} bytes of lists in the store",
            f"takes {self.hours:,.2f} hours at least, bounded by {self.bound}",
            *self.made_of,
        ]

    @property
    def hours(self) -> float:
        """From the first request to the last list."""
        return max(self.model_hours or 0.0, self._asking_hours)

    @property
    def bound(self) -> str:
        """What the command waits for."""
        return "the model" if self.hours > self._asking_hours else f"--per_second={self.per_second:g}"

    @property
    def _asking_hours(self) -> float:
        return self.lists / self.per_second / 3_600


def estimate(
    store: ShopperStore,
    users: Iterable[str],
    judge: Judge,
    models: str,
    model: str,
    prices: Prices,
    per_second: float,
) -> Estimate:
    """Walks over the shoppers as the command itself would. Raises StoreUnavailable, BadBundle."""
    chance, sample = random.Random(0), []
    shoppers = lists = 0
    skipped: Counter[str] = Counter()
    ordered = sorted(set(users))
    for begin in range(0, len(ordered), AT_ONCE):
        for verdict in judge(ordered[begin : begin + AT_ONCE]):
            shoppers += 1
            if isinstance(verdict, str):
                skipped[verdict] += 1
                continue
            lists += 1
            if len(sample) < SAMPLE:
                sample.append(verdict.blob)
            elif (place := chance.randrange(lists)) < SAMPLE:
                sample[place] = verdict.blob
    prompt_tokens, of_prompts = _prompt_tokens(sample, models, model)
    output_tokens, list_bytes, of_lists = _of_stored(store)
    tokens_per_s, of_speed = (prices.tokens_per_s, "") if prices.tokens_per_s else measured_speed()
    hours = lists * output_tokens / tokens_per_s / 3_600 if tokens_per_s else None
    return Estimate(
        shoppers,
        lists,
        dict(skipped),
        lists * prompt_tokens,
        lists * output_tokens,
        lists * list_bytes,
        hours,
        hours * prices.gpu_hour if hours is not None and prices.gpu_hour else None,
        per_second,
        tuple(line for line in (of_prompts, of_lists, of_speed) if line),
    )


def measured_speed() -> tuple[float, str]:
    """Output tokens a second, and where that was measured; 0 where it was not."""
    if not MEASURED.is_file():
        return 0.0, "model time: nobody has measured here; give --tokens_per_second"
    result = json.loads(MEASURED.read_text())
    rates = [run["tokens_per_s"] for run in result["figures"]["job"]]
    rate = sum(rates) / len(rates)
    where = f"{result['figures']['model']} on {result['cores']} cores of {result['cpu']}"
    return rate, f"model time by {rate:,.0f} output tokens a second, the job's with {where}; yours: --tokens_per_second"


def _prompt_tokens(blobs: Sequence[bytes], models: str, model: str) -> tuple[float, str]:
    served = latest(models, model)
    if served is None or not blobs:
        return 0.0, "" if served else f"prompt tokens unknown: no model is promoted in {models}/{model}"
    encode = ModelBundle.open(served.path).tokenizer.encode
    changes = map(decode_change, blobs)
    prompts = [build_prompt(change.profile, change.behaviours, change.as_of_ms) for change in changes]
    mean = sum(len(encode(prompt).ids) for prompt in prompts) / len(prompts)
    return mean, f"prompts of {len(prompts)} of these shoppers have {mean:,.0f} tokens in the mean ({served.version})"


def _of_stored(store: ShopperStore) -> tuple[float, float, str]:
    runs = [run for _, found in islice(store.scan_runs(), SAMPLE) for run in found]
    if not runs:
        assumed = f"{ASSUMED_OUTPUT_TOKENS:.0f} output tokens and {ASSUMED_BYTES:.0f} bytes a list are assumed"
        return ASSUMED_OUTPUT_TOKENS, ASSUMED_BYTES, f"no list is stored yet: {assumed}"
    tokens = sum(run.output_tokens for run in runs) / len(runs)
    size = sum(len(compress(encode_run(run))) for run in runs) / len(runs)
    return tokens, size, f"{len(runs)} stored lists have {tokens:,.0f} output tokens and {size:,.0f} bytes in the mean"
