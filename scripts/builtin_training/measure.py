"""Measure an exported source through llama.cpp: accuracy per skill, parity with the network."""

from __future__ import annotations

import torch

from cf_local.builtin.problems import SKILLS, Problem, final_number, generate, generate_for

from .network import Network
from .runtime import Runtime, render

TEST_SEED = 7


def accuracy(runtime: Runtime, n_per_skill: int) -> dict[str, float]:
    """The share of unseen problems with the right final number, by skill and for two at once."""
    found = {}
    for skill in SKILLS:
        found[skill] = _share_right(runtime, generate_for((skill,), n_per_skill, TEST_SEED, "test"))
    chained = [p for p in generate(4 * n_per_skill, TEST_SEED, "test") if len(p.skills) == 2]
    found["two skills"] = _share_right(runtime, chained)
    return found


def _share_right(runtime: Runtime, problems: list[Problem]) -> float:
    right = [
        final_number(runtime.answer([{"role": "user", "content": p.question}])) == p.result
        for p in problems
    ]
    return sum(right) / max(1, len(right))


@torch.no_grad()
def worst_parity(network: Network, runtime: Runtime, n_prompts: int) -> tuple[float, int]:
    """Compare the network with the exported file, token by token along greedy answers.

    Returns the largest difference of the chosen token's log-probability, and how often the argmax
    differs.
    """
    worst, n_different = 0.0, 0
    for problem in generate(n_prompts, TEST_SEED, "test"):
        text = render(runtime.source, [{"role": "user", "content": problem.question}], prompt=True)
        tokens = runtime.encode_rendered(text)
        for token in runtime.continue_greedily(tokens, 60):
            theirs = torch.from_numpy(runtime.logits_after(tokens, 0)).log_softmax(-1)
            row = torch.tensor([tokens])
            ours = network.logits(network(row, torch.zeros_like(row))[0, -1]).log_softmax(-1)
            worst = max(worst, abs(float(ours[token] - theirs[token])))
            n_different += int(ours.argmax() != theirs.argmax())
            tokens = [*tokens, token]
    return worst, n_different
