"""Shoppers of one market in several processes, synchronised by day: each day waits for the statistics of the days before.

Which process plays whom changes nothing: shoppers meet only in the statistics, and those are made in one place.
"""

import multiprocessing
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType

import msgspec

from simulation.logging_ranker import ShopStatistics
from simulation.market_folder import MarketFacts, law_of
from simulation.play import PlayedDay, Shoppers

FAILED = b"failed:"
"""Begins a worker's answer that is a traceback."""


class Order(msgspec.Struct, frozen=True):
    day: int
    statistics: ShopStatistics


class Workers:
    """Use as a context manager: at its end the processes have ended."""

    def __init__(self, facts: MarketFacts, count: int):
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self.processes = []
        for worker in range(count):
            ours, theirs = context.Pipe()
            numbers = range(worker, facts.shoppers, count)
            process = context.Process(
                target=_work, args=(theirs, facts, numbers), daemon=True, name=f"shoppers {worker}"
            )
            process.start()
            theirs.close()
            self._connections.append(ours)
            self.processes.append(process)

    def begin(self, day: int, statistics: ShopStatistics) -> None:
        order = msgspec.msgpack.encode(Order(day, statistics))
        for connection in self._connections:
            with suppress(BrokenPipeError):  # of a process that has ended: `played` tells how
                connection.send_bytes(order)

    def played(self) -> PlayedDay:
        """Waits for the day that was begun. Raises RuntimeError with the worker's traceback where one failed."""
        whole = PlayedDay([], [], [])
        for connection, process in zip(self._connections, self.processes, strict=True):
            try:
                told = connection.recv_bytes()
            except (EOFError, ConnectionResetError) as error:
                process.join()
                raise RuntimeError(
                    f"process {process.name!r} ended with {process.exitcode}; -9 is mostly the system's want of memory"
                ) from error
            if told.startswith(FAILED):
                raise RuntimeError(f"process {process.name!r}: {told.removeprefix(FAILED).decode()}")
            part = msgspec.msgpack.decode(told, type=PlayedDay)
            whole.did += part.did
            whole.saw += part.saw
            whole.examples += part.examples
        return whole

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process in self.processes:
            if error is not None:
                process.terminate()
            process.join()


def _work(connection: Connection, facts: MarketFacts, numbers: Sequence[int]) -> None:
    encoder = msgspec.msgpack.Encoder()
    try:
        law = law_of(facts.law, facts.seed, facts.drift, facts.start_ms)
        shoppers = Shoppers(law, facts.seed, numbers, facts.start_ms, facts.days)
        while True:
            order = msgspec.msgpack.decode(connection.recv_bytes(), type=Order)
            connection.send_bytes(encoder.encode(shoppers.play(order.day, order.statistics)))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return  # the market is written, or was given up
    except Exception:
        connection.send_bytes(FAILED + traceback.format_exc().encode())
