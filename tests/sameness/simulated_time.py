"""Time that passes only when the simulation says so, in place of the module `time` where the product looks at the clock."""

from collections.abc import Iterator
from contextlib import contextmanager

from inference import in_flight, scripted_engine
from transforms import claim_requests, generate_queries, track_interest, write_query_lists

LOOKING_AT_THE_CLOCK = (
    track_interest,
    claim_requests,
    generate_queries,
    write_query_lists,
    scripted_engine,
    in_flight,
)
BLOCK_S = 0.05
"""One look of the claimer a call: what it waits for comes from other actors."""


class SimulatedTime:
    """What the product uses of `time`, on one clock in ms."""

    def __init__(self, now_ms: int):
        self.now_ms = now_ms

    def time(self) -> float:
        return self.now_ms / 1000

    monotonic = time

    def advance(self, ms: int) -> None:
        self.now_ms += ms

    @contextmanager
    def in_the_product(self) -> Iterator[None]:
        real = [(module, module.time) for module in LOOKING_AT_THE_CLOCK]
        block_s = claim_requests.BLOCK_S
        for module in LOOKING_AT_THE_CLOCK:
            module.time = self  # type: ignore[attr-defined]
        claim_requests.BLOCK_S = BLOCK_S
        try:
            yield
        finally:
            claim_requests.BLOCK_S = block_s
            for module, clock in real:
                module.time = clock  # type: ignore[attr-defined]
