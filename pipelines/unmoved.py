"""Where a writer begins while no command moves its name: whoever began after the writers of before were fenced, and before the
name was moved, would write on where nobody looks any more."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from store.client import ShopperStore, StoreError
from store.namespaces import Namespaces

LOG = logging.getLogger(__name__)
MOVE_S = 600.0
"""How long a beginning waits for an operator who is moving the namespace's name."""


class NamespaceMoved(StoreError):
    """A command began to move or to change the namespace while this one began: begun again, it finds what came of it."""


@contextmanager
def unmoved(store: ShopperStore) -> Iterator[int]:
    """Around `store.begin`: waits until nobody moves the name, and yields how often that was done (Namespaces.moves).

    Raises NamespaceMoved where the name was taken meanwhile, or `store` was resolved before it was moved; StoreError where a move
    does not end.
    """
    names = Namespaces(store.calls)
    if mover := names.moving(store.name):
        LOG.warning("%s is moving %r: waiting for its end", mover, store.name)
    names.wait_for_move(store.name, MOVE_S)
    moves = names.moves(store.name)
    yield moves
    if names.moves(store.name) != moves or names.pointed_to(store.name) != store.namespace:
        raise NamespaceMoved(
            f"an operator's command has just begun to move {store.name!r}, or has moved it; the same again goes on after it"
        )
