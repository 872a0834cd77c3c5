"""`allowed_prefixes.py` on a batch of logits, for vLLM and for torch: one gather and one scatter a step, however many rows."""

from collections.abc import Mapping

import torch

from inference.allowed_prefixes import Standing, places


def restrict(logits: torch.Tensor, standings: Mapping[int, Standing]) -> None:
    """Takes away, in place, every token that may not come next in its row. logits: rows x vocabulary."""
    if not standings:
        return
    found = places(standings)
    # Places in the flattened batch: half the price of rows and columns.
    where = torch.from_numpy(found.rows * logits.shape[1] + found.tokens).to(logits.device)
    kept = torch.take(logits, where)
    if len(standings) == len(logits):
        logits.fill_(float("-inf"))
    else:
        logits[torch.tensor(list(standings), device=logits.device)] = float("-inf")
    logits.put_(where, kept)
