"""Something that is done again and again beside the work of a command, until that is over."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from store.client import StoreError

LOG = logging.getLogger(__name__)


@contextmanager
def meanwhile(name: str, each_s: float, do: Callable[[], object]) -> Iterator[None]:
    """In a thread of its own. What the store refuses is logged, and tried again next time: the work meets it, too."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(each_s):
            try:
                do()
            except StoreError as error:
                LOG.warning("%s: %s", name, error)

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
