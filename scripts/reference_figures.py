"""The engine against the reference on real models, step by step on the same committed text.

    python scripts/reference_figures.py A.gguf B.gguf ... [--steps 250]
    python scripts/reference_figures.py A.gguf B.gguf ... --early [--steps 2000]
    python scripts/reference_figures.py --random 40 --early [--steps 20000]

Both draft, score and rerank; then both commit what the reference has chosen. Where the candidates
or the winner differ, the script prints by how little the reference decided: the shape of a batch
moves logits (docs/speed.md), so a difference is explained if the reference's choice leads by no
more than its own scores move between shapes. Run it with the Python of .venv; it takes about 2
seconds a step with models of 0.5B, and docs/LOG.md has the results.

With ``--early`` there is no reference: at every step, the winner that was decided early is compared
with the one that all sources choose when all of them draft and score. ``--random`` takes sets of
tiny random models instead of files, of all architectures and vocabularies.
"""

import argparse
import json
import math
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cf_local.evaluation.bench import EVERYDAY
from cf_local.llama.source import LlamaSource
from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.method import reranker, writer
from cf_local.method.session import prefill
from cf_local.method.synchronizer import draft_segment
from cf_local.method.writer import Writer
from cf_local.progress import drained
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Sampling, Settings
from cf_local.types import Candidate, Prompt, RawText, chat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import reference as ref  # noqa: E402  # the tests' own module

PROMPTS = [
    *EVERYDAY,
    *(
        json.loads(line)["prompt"]
        for name in ("instructions", "solutions")
        for line in (ROOT / f"tests/data/references_{name}.jsonl").read_text().splitlines()
    ),
]
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
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--early", action="store_true", help="compare with asking everybody")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N sets of tiny models")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--logits", type=float, default=1.5, help="lead of a near tie of drafts")
    parser.add_argument("--nats", type=float, default=0.25, help="lead of a near tie of scores")
    given = parser.parse_args()
    if given.early:
        early(given)
        return
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
            scores = [source.score(candidates, word_ends=True) for source in sources]
            verdict = reranker.decide(scores, candidates, settings.score, weights)
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
        ref.draft(known, k, tokens, [], response, settings.segment_limit, settings)
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


# ---- Deciding early


class Checked(Writer):
    """Decides each step early, then by asking everybody; goes on with the latter."""

    found: "FoundEarly"

    def _hear(self, watch: writer._StepWatch) -> writer._Decided:
        early = super()._hear(watch)
        full = self._ask(watch)
        self.found.note(early, full)
        return full


@dataclass
class FoundEarly:
    """The steps that were decided early, and those with another winner."""

    n_steps: int = 0
    n_disputed: int = 0
    by_asked: Counter[int] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)

    def note(self, early: writer._Decided, full: writer._Decided) -> None:
        """Compare one step."""
        self.n_steps += 1
        self.n_disputed += len(full.proposals.candidates) > 1
        self.by_asked[len(early.asked)] += 1
        chosen = early.proposals.candidates[early.verdict.winner]
        index = full.proposals.index(chosen)
        if index != full.verdict.winner:
            pooled = full.verdict.pooled
            lead = math.nan
            if pooled is not None and index is not None:
                lead = float(pooled[index] - pooled[full.verdict.winner])
            self.different.append(f"{chosen} of {full.proposals.candidates}: {lead:.5f} nats")


def early(given: argparse.Namespace) -> None:
    """Compare steps until there are enough, and print."""
    found = Checked.found = FoundEarly()
    weights = ("equal", "size", None)
    if not given.random:
        with load(models=given.models, options=LoadOptions(n_ctx=1024), on_notice=print) as fusion:
            for prompt in PROMPTS:
                write_checked(fusion, chat(prompt), Settings(max_tokens=200), given, found)
    for seed in range(given.random):
        with tempfile.TemporaryDirectory() as folder, random_fusion(seed, Path(folder)) as fusion:
            for index, text in enumerate(("The quick brown", "She sells 24", "It is (over)", "é")):
                chosen = weights[(seed + index) % 3] or {"s0": 1.0, "s1": 2.0, "s2": 0.5}
                settings = Settings(max_tokens=300, weights=chosen, repetition_guard=False)
                write_checked(fusion, RawText(text), settings, given, found)
        print(f"set {seed}: {found.n_steps} steps, {len(found.different)} different", flush=True)
    shares = {n: f"{100 * c / found.n_steps:.1f}%" for n, c in sorted(found.by_asked.items())}
    print(
        f"{found.n_steps} steps, {found.n_disputed} of them disputed; asked: {shares}; "
        f"{len(found.different)} with another winner"
    )
    for line in found.different:
        print("    " + line)


def write_checked(
    fusion: Fusion,
    prompt: Prompt,
    settings: Settings,
    given: argparse.Namespace,
    found: FoundEarly,
) -> None:
    """One answer, in the thread that computes."""

    def write() -> None:
        sessions = tuple(source.sessions[0] for source in fusion.sources)
        answer = Checked(sessions, settings, lambda: False)
        drained(answer.prefill(prompt))
        while answer.finish_reason is None and found.n_steps < given.steps:
            answer.step()
        answer.rollback()

    if found.n_steps < given.steps:
        fusion.alone(write)


def random_fusion(seed: int, folder: Path) -> Fusion:
    """Three tiny random models."""
    import tiny_models as tiny

    draw, sources = random.Random(seed), []
    vocabularies = [tiny.bpe_vocab(), tiny.spm_vocab(), tiny.bpe_vocab(n_merges=40)]
    for index, arch in enumerate(draw.sample(tiny.ARCHITECTURES, 3)):
        path = folder / f"{index}.gguf"
        tiny.make_model(
            path,
            arch,
            draw.choice(vocabularies),
            seed=10 * seed + index,
            sharpness=draw.choice([1.0, 3.0]),
            lean=draw.choice([3.0, 9.0]),
        )
        sources.append(LlamaSource(f"s{index}", path, n_ctx=1024, n_threads=1))
    return Fusion(sources)


if __name__ == "__main__":
    main()
