"""What a preview says of what its lists would cost, and how long they take."""

from dataclasses import replace

import pytest

from pipelines.list_estimate import Estimate

TWO_MILLION = Estimate(
    shoppers=2_100_000,
    lists=2_000_000,
    skipped={"listed": 100_000},
    prompt_tokens=240e6,
    output_tokens=80e6,
    store_bytes=480e6,
    model_hours=4.0,
    price=None,
    per_second=100.0,
    made_of=("model time by 5,555 output tokens a second, the job's with tiny/1 on 2 cores of a CPU",),
)


def test_a_preview_tells_shoppers_changes_tokens_model_time_bytes_and_how_to_learn_the_cost():
    assert TWO_MILLION.lines() == [
        "2,100,000 shoppers, 2,000,000 lists to ask for at most, each a change at low priority",
        "not asked for: listed 100,000",
        "240,000,000 prompt tokens, 80,000,000 output tokens, 4.00 hours of model (GPU) time",
        "cost: give --gpu_hour_price",
        "480,000,000 bytes of lists in the store",
        "takes 5.56 hours at least, bounded by --per_second=100",
        "model time by 5,555 output tokens a second, the job's with tiny/1 on 2 cores of a CPU",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_hours": 7.5}, "takes 7.50 hours at least, bounded by the model"),
        ({"per_second": 1_000.0}, "takes 4.00 hours at least, bounded by the model"),
        ({"model_hours": None}, "unknown model (GPU) time"),
        ({"model_hours": None}, "takes 5.56 hours at least, bounded by --per_second=100"),
        ({"price": 12.5}, "cost: 12.50 at the price given"),
        ({"lists": 0, "model_hours": 0.0, "price": 0.0}, "cost: 0.00 at the price given"),
    ],
)
def test_the_longer_of_model_and_pace_bounds_it(changes: dict, said: str):
    assert said in "\n".join(replace(TWO_MILLION, **changes).lines())
