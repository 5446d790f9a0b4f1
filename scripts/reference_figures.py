"""The engine against the reference on real models, step by step on the same committed text.

    python scripts/reference_figures.py A.gguf B.gguf ... [--steps 250]

Both draft, score and rerank; then both commit what the reference has chosen. Where the candidates
or the winner differ, the script prints by how little the reference decided: the shape of a batch
moves logits (docs/speed.md), so a difference is explained if the reference's choice leads by no
more than its own scores move between shapes. Run it with the Python of .venv; it takes about 2
seconds a step with models of 0.5B, and docs/LOG.md has the results.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cf_local.evaluation.bench import EVERYDAY
from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.method import reranker
from cf_local.method.session import prefill
from cf_local.method.synchronizer import draft_segment
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling
from cf_local.types import Candidate, chat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import reference as ref  # noqa: E402  # the tests' own module

STEPS_OF_ONE = 25  # of an answer, then the next prompt


@dataclass
class Found:
    """What was compared."""

    n_steps: int = 0
    n_scored: int = 0
    n_same_candidates: int = 0
    n_same_winner: int = 0
    score_noise: list[float] = field(default_factory=list)  # nats per token, absolute
    explained: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)


def main() -> None:
    """Parse the command line, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--logits", type=float, default=1.5, help="lead of a near tie of drafts")
    parser.add_argument("--nats", type=float, default=0.25, help="lead of a near tie of scores")
    given = parser.parse_args()
    options, found = LoadOptions(n_ctx=1024), Found()
    with load(models=given.models, options=options, on_notice=print) as fusion:
        known = [ref.RefSource(path, n_ctx=1024, flash_attention=False) for path in given.models]
        for prompt in EVERYDAY:
            if found.n_steps < given.steps:
                fusion.alone(lambda prompt=prompt: compare(fusion, known, prompt, given, found))
                report(found)


def compare(
    fusion: Fusion,
    known: list[ref.RefSource],
    prompt: str,
    given: argparse.Namespace,
    found: Found,
) -> None:
    """Some steps of one answer."""
    sources = [source.sessions[0] for source in fusion.sources]
    settings = ref.RefSettings()
    weights = [1.0] * len(sources)
    before = []
    for session in sources:
        prefill(session, chat(prompt), sampling=Sampling())
        before.append(session.prompt_tokens(chat(prompt)))
    response = b""
    for _ in range(STEPS_OF_ONE):
        step, ways = reference_step(known, before, response, settings)
        drafts = [
            draft_segment(source, [s for s in sources if s is not source], "aligned", 32)
            for source in sources
        ]
        candidates = list(dict.fromkeys(Candidate(draft.text, draft.ends) for draft in drafts))
        verdict = reranker.Verdict(winner=0)
        if len(candidates) > 1:
            scores = [source.score(candidates) for source in sources]
            verdict = reranker.decide(scores, candidates, "nll", weights)
        note(found, given, step, candidates, verdict)
        won = step.candidates[step.winner]
        for source in sources:
            source.commit(Candidate(won.text, won.ends))
        before = [tokens + ways[k][step.winner] for k, tokens in enumerate(before)]
        response += won.text
        if won.ends:
            break
    for source in sources:
        source.rollback()


def reference_step(
    known: list[ref.RefSource],
    before: list[list[int]],
    response: bytes,
    settings: ref.RefSettings,
) -> tuple[ref.RefStep, list[list[list[int]]]]:
    """A step as docs/method.md defines it, and each candidate in the tokens of each source."""
    drafts = [
        ref.draft(known, k, tokens, response, settings.segment_limit, settings)
        for k, tokens in enumerate(before)
    ]
    candidates = ref.gather([(draft.text, draft.ends) for draft in drafts])
    ways = [
        [
            drafts[k].tokens if k in c.proposers else known[k].encode_in_context(response, c.text)
            for c in candidates
        ]
        for k in range(len(known))
    ]
    scores = ref.score_matrix(known, before, candidates, ways, settings.score)
    margins = tuple(draft.margin for draft in drafts)
    return ref.rerank(candidates, scores, margins, settings), ways


def note(
    found: Found,
    given: argparse.Namespace,
    step: ref.RefStep,
    candidates: list[Candidate],
    verdict: reranker.Verdict,
) -> None:
    """Compare one step."""
    found.n_steps += 1
    expected = [(c.text, c.ends) for c in step.candidates]
    drafted = [(c.text, c.ends) for c in candidates]
    margins = [round(m, 3) for m in step.draft_margins if np.isfinite(m)]
    if expected != drafted:
        line = f"candidates {drafted} instead of {expected}; draft margins {margins} logits"
        is_near = min(step.draft_margins) <= given.logits
        (found.explained if is_near else found.unexplained).append(line)
        return
    found.n_same_candidates += 1
    found.n_same_winner += verdict.winner == step.winner
    if step.scores is None:
        return
    found.n_scored += 1
    noise = np.abs(np.asarray(verdict.matrix) - step.scores)
    found.score_noise += noise.ravel().tolist()
    if verdict.winner != step.winner:
        line = f"winner {drafted[verdict.winner]} instead of {expected[step.winner]}; "
        line += f"lead {step.score_margin:.4f} nats, noise of its scores up to {noise.max():.4f}"
        is_near = step.score_margin <= max(given.nats, noise.max())
        (found.explained if is_near else found.unexplained).append(line)


def report(found: Found) -> None:
    """Print what was found so far."""
    noise = np.array(found.score_noise or [0.0])
    print(
        f"{found.n_steps} steps: the same candidates in {found.n_same_candidates} "
        f"(the same winner in {found.n_same_winner} of them); {found.n_scored} scored, scores "
        f"apart by {noise.mean():.4f} nats per token on average, {np.quantile(noise, 0.99):.3f} "
        f"in 99%, {noise.max():.3f} at most; {len(found.explained)} near ties, "
        f"{len(found.unexplained)} unexplained",
        flush=True,
    )
    for line in found.unexplained:
        print("    " + line, flush=True)
    if found.explained:
        print("    last near tie: " + found.explained[-1], flush=True)


if __name__ == "__main__":
    main()
