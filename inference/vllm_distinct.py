"""What a list may hold, inside vLLM: no query twice (`distinct.py`), and where there is an allow-list nothing else
(`allowed_prefixes.py`). A server takes it by `--logits-processors inference.vllm_distinct:DistinctQueries`.
"""

import logging
from pathlib import Path

import torch
from tokenizers import Tokenizer
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from inference.allow_list import AUTO, AllowList, file_for
from inference.allowed_logits import restrict
from inference.allowed_prefixes import Prefixes, Standing
from inference.distinct import Listed, stops_of

LOG = logging.getLogger(__name__)

ALLOW_LIST = "aigq_allow_list"
"""Key of vLLM's `--additional-config`: auto (default), none or a file."""


class DistinctQueries(LogitsProcessor):
    """One `Listed`, or one `Standing` in the allow-list's trie, for each row of vLLM's batch."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        bundle = Path(vllm_config.model_config.model)
        tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self._stops = stops_of(tokenizer)
        self._rows: dict[int, Listed] = {}
        self._prefixes: Prefixes | None = None
        self._standings: dict[int, Standing] = {}
        more = vllm_config.additional_config
        if path := file_for(more.get(ALLOW_LIST, AUTO) if isinstance(more, dict) else AUTO, bundle):
            self._prefixes = Prefixes.of(AllowList.read(path), tokenizer)
            LOG.info("only queries of %s are written", path)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows vLLM's requests through its batch: removed, added, moved, in this order."""
        if batch_update is None:
            return
        rows: dict[int, Listed] | dict[int, Standing] = self._standings if self._prefixes else self._rows
        for row in batch_update.removed:
            rows.pop(row, None)
        for row, _params, _prompt, written in batch_update.added:
            if self._prefixes:
                self._standings[row] = Standing(self._prefixes, written)
            else:
                self._rows[row] = Listed(self._stops, written)
        for source, target, direction in batch_update.moved:
            moved, other = rows.pop(source, None), rows.pop(target, None)
            if moved is not None:
                rows[target] = moved  # type: ignore[assignment]
            if other is not None and direction is MoveDirectionality.SWAP:
                rows[source] = other  # type: ignore[assignment]

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        restrict(logits, self._standings)
        for row, listed in self._rows.items():
            if tokens := listed.banned():
                logits[row, list(tokens)] = float("-inf")
        return logits
