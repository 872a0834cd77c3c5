"""`distinct.py` inside vLLM. A server takes it by `--logits-processors inference.vllm_distinct:DistinctQueries`."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from inference.distinct import Listed, stops_of


class DistinctQueries(LogitsProcessor):
    """One `Listed` for each row of vLLM's batch."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        bundle = Path(vllm_config.model_config.model)
        self._stops = stops_of(Tokenizer.from_file(str(bundle / "tokenizer.json")))
        self._rows: dict[int, Listed] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows vLLM's requests through its batch: removed, added, moved, in this order."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for row, _params, _prompt, written in batch_update.added:
            self._rows[row] = Listed(self._stops, written)
        for source, target, direction in batch_update.moved:
            moved, other = self._rows.pop(source, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if other is not None and direction is MoveDirectionality.SWAP:
                self._rows[source] = other

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for row, listed in self._rows.items():
            if tokens := listed.banned():
                logits[row, list(tokens)] = float("-inf")
        return logits
