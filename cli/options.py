"""Options that many commands share, and the store as a person at a terminal reads it."""

import typer

from store.client import ShopperStore

STORE = typer.Option("redis://127.0.0.1:6379", "--store", envvar="AIGQ_STORE", help="URL of the key-value store.")
NAMESPACE = typer.Option("live", "--namespace", envvar="AIGQ_NAMESPACE", help="Namespace of the keys.")


def reader(url: str, namespace: str) -> ShopperStore:
    """For a person who waits: a store that does not answer is said after seconds, not after a minute."""
    return ShopperStore(url, namespace, deadline_s=5)
