"""The training loop: Muon and AdamW, warm-up and cosine, loss on the replies only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from .conversations import Windows
from .network import Network

BATCH_TOKENS = 3072
LONG_SHARE = 0.25  # of the steps, at the end, with the long windows
_WARM_UP, _FLOOR_SHARE = 100, 0.01


@dataclass(frozen=True)
class Plan:
    """How long to train: so many steps, or fewer on a schedule that ends after ``minutes``."""

    steps: int
    seed: int
    minutes: float = math.inf
    peak_rate: float = 3e-3


def train(
    network: Network,
    short: Windows,
    long: Windows,
    plan: Plan,
    report: Callable[[int, float], None],
) -> int:
    """Train in place; ``report`` gets step and loss now and then. Returns the steps done."""
    optimizers = _optimizers(network)
    rng = np.random.default_rng(plan.seed)
    batches = {id(windows): _batches(windows, rng) for windows in (short, long)}
    started, step, progress, running = time.monotonic(), 0, 0.0, 0.0
    while progress < 1:
        progress = max((step + 1) / plan.steps, (time.monotonic() - started) / (60 * plan.minutes))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = plan.peak_rate * _rate(step, progress)
        windows = short if progress < 1 - LONG_SHARE else long
        loss = _step(network, optimizers, next(batches[id(windows)]))
        running = loss if step == 0 else 0.98 * running + 0.02 * loss
        step += 1
        if step % 100 == 0 or progress >= 1:
            report(step, running)
    return step


def _rate(step: int, progress: float) -> float:
    """The learning rate as a share of its peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return min(1.0, (step + 1) / _WARM_UP) * (_FLOOR_SHARE + (1 - _FLOOR_SHARE) * cosine)


def _batches(
    windows: Windows, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Endless batches in shuffled order."""
    n_rows = max(1, BATCH_TOKENS // windows.tokens.shape[1])
    while True:
        order = rng.permutation(len(windows.tokens))
        for start in range(0, len(order) - n_rows + 1, n_rows) or (0,):
            rows = order[start : start + n_rows]
            yield windows.tokens[rows], windows.targets[rows], windows.owners[rows]


def _optimizers(network: Network) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the embedding, norms and biases."""
    inside = [w for w in network.blocks.parameters() if w.ndim == 2]
    chosen = {id(w) for w in inside}
    others = [w for w in network.parameters() if id(w) not in chosen]
    return [
        torch.optim.Muon(inside, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def _step(
    network: Network,
    optimizers: list[torch.optim.Optimizer],
    batch: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> float:
    tokens, targets, owners = (torch.from_numpy(array) for array in batch)
    hidden = network(tokens, owners)
    wanted = targets >= 0
    loss = functional.cross_entropy(network.logits(hidden[wanted]), targets[wanted])
    network.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()
