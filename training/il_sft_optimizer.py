"""Muon for the matrices inside the layers, AdamW for the rest. With updates scaled to AdamW's size one learning rate serves both."""

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from training.checkpoint import learned

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, after Keller Jordan's Muon."""
ITERATIONS = 5


def optimizers(
    model: nn.Module, muon: bool, learning_rate: float, weight_decay: float, native_bf16: bool
) -> list[Optimizer]:
    weights = learned(model)
    matrices = [w for name, w in weights.items() if muon and w.ndim == 2 and ".layers." in name]
    of_muon = {id(w) for w in matrices}
    rest = [w for w in weights.values() if id(w) not in of_muon]
    # Embeddings and norms are not decayed beside Muon; with AdamW alone matrices are, as everybody does.
    decayed = [] if muon else [w for w in rest if w.ndim >= 2]
    kept = rest if muon else [w for w in rest if w.ndim < 2]
    adamw = AdamW(
        [
            {"params": params, "weight_decay": decay}
            for params, decay in ((decayed, weight_decay), (kept, 0.0))
            if params
        ],
        lr=learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    if not matrices:
        return [adamw]
    return [Muon(matrices, learning_rate, weight_decay, torch.bfloat16 if native_bf16 else torch.float32), adamw]


class Muon(Optimizer):
    """As torch.optim.Muon with `match_rms_adamw`, but for the dtype of the orthogonalisation: torch's is always bf16, of which a
    processor that does not know it makes seconds a step (1.2 against 61 GFLOPS)."""

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float,
        weight_decay: float,
        dtype: torch.dtype,
        momentum: float = 0.95,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(state["momentum_buffer"], group["momentum"]), self._dtype)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix with its singular values near 1, by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    wide = matrix.to(dtype) if matrix.shape[0] <= matrix.shape[1] else matrix.T.to(dtype)
    x = wide / wide.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def native_bf16() -> bool:
    """Whether this processor (or accelerator) multiplies bf16 itself."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
