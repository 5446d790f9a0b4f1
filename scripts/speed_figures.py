"""Figures about speed that need special models: random weights with real vocabularies.

    python scripts/speed_figures.py worst     sources that disagree all the time
    python scripts/speed_figures.py context   a step after 200, 1,000 and 4,000 tokens
    python scripts/speed_figures.py long A.gguf B.gguf ...   answers of 320 tokens by endless copies

Run it with the Python of .venv on a quiet machine; docs/LOG.md has the results. `cf-local bench`
measures what the fusion costs compared with its sources alone. `inflate.py --endless` makes copies
of the built-in models that do not end; the first one named counts as the slowest.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean

from cf_local.builtin.problems import generate
from cf_local.evaluation.bench import Case, Timing, differences, fused_case, ratio, run
from cf_local.llama.plain import PlainModel
from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.types import Answer, Chat, RawText, Step, chat

ROOT = Path(__file__).resolve().parent.parent
VOCABULARIES = ROOT / ".cache" / "llama.cpp-models"
NAMES = ("qwen2", "llama-bpe", "phi-3")  # 152,000, 128,000 and 32,000 tokens
PROMPTS = ("The quick brown fox", "Once upon a time", "def main():", "In 1969", "Dear Ms. Lee,")
N_STEPS = 40


def main() -> None:
    """Parse the command line and print one figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figure", choices=["worst", "context", "long"])
    parser.add_argument("models", nargs="*", type=Path, help="for `long`")
    parser.add_argument("--width", type=int, default=256, help="n_embd of the models")
    given = parser.parse_args()
    if given.figure == "long":
        with load(models=given.models) as fusion:
            long(fusion)
        return
    with tempfile.TemporaryDirectory() as folder:
        models = [write_model(Path(folder), name, given.width) for name in NAMES]
        print(", ".join(f"{m.stem} {m.stat().st_size / 1e6:.0f} MB" for m in models))
        # One after the other, so that the times of their passes add up.
        with load(models=models, options=LoadOptions(n_ctx=8192, overlap=False)) as fusion:
            {"worst": worst, "context": context}[given.figure](fusion)


def write_model(folder: Path, name: str, width: int) -> Path:
    """A Llama of random weights with a real vocabulary, which never ends an answer."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import tiny_models as tiny

    path = folder / f"{name}.gguf"
    vocabulary = tiny.graft_vocab(VOCABULARIES / f"ggml-vocab-{name}.gguf")
    seed = NAMES.index(name)
    tiny.make_model(path, "llama", vocabulary, seed=seed, n_embd=width, n_ctx=8192, eog_bias=-60.0)
    return path


def worst(fusion: Fusion) -> None:
    """The text and the time with and without speculation, alternating, and what is outside."""
    settings = Settings(max_tokens=96, repetition_guard=False)
    answers: dict[bool, list[Answer]] = {True: [], False: []}
    n_agreed = n_steps = 0
    for round_ in range(3):
        for index, text in enumerate(PROMPTS):
            for speculation in (True, False) if (round_ + index) % 2 else (False, True):
                for event in fusion.stream(
                    RawText(text), replace(settings, speculation=speculation)
                ):
                    if isinstance(event, Answer):
                        answers[speculation].append(event)
                    else:
                        n_steps += 1
                        n_agreed += len(event.candidates) == 1
    texts = {key: sorted({a.text for a in value}) for key, value in answers.items()}
    seconds = {key: sum(a.elapsed_s for a in value) for key, value in answers.items()}
    print(
        f"{len(PROMPTS)} prompts, 3 times; they agree on {n_agreed / n_steps:.0%} of the segments"
    )
    print(f"texts equal: {len(set(texts[True]) & set(texts[False]))} of {len(PROMPTS)}")
    for text in PROMPTS:
        show_difference(fusion, text, settings)
    print(f"time with speculation over time without: {seconds[True] / seconds[False]:.3f}")
    for speculation, value in answers.items():
        outside = 1 - sum(a.decode_s for a in value) / sum(a.elapsed_s for a in value)
        print(f"outside llama_decode, speculation {speculation}: {outside:.1%}")


def show_difference(fusion: Fusion, text: str, settings: Settings) -> None:
    """Where the texts with and without speculation part, if they do.

    In a near tie the means are equal, or a source's own scores of the two texts it drafted.
    """
    ways = [
        list(fusion.stream(RawText(text), replace(settings, speculation=speculation)))
        for speculation in (False, True)
    ]
    for one, other in zip(*ways, strict=False):
        if isinstance(one, Step) and isinstance(other, Step) and one.text != other.text:
            print(f"{text!r} parts here; candidates without and with speculation:")
            for step in (one, other):
                for c in step.candidates:
                    scores = {name: round(score, 4) for name, score in c.scores.items()}
                    print(f"    {c.text!r} by {', '.join(c.sources)}: {c.mean}, {scores}")
                print()
            return


def long(fusion: Fusion) -> None:
    """Answers of 320 tokens: the fusion against its first source alone, and the texts' equality."""
    settings = Settings(max_tokens=320, repetition_guard=False)
    plain = fused_case("cool, no speculation", fusion, replace(settings, speculation=False))
    ahead = fused_case("cool", fusion, settings)
    info = fusion.sources[0].info
    model = PlainModel(Path(info.file), n_ctx=info.n_ctx, n_threads=info.n_threads)

    def answer(prompt: Chat) -> Timing:
        text, first_s, rest_s = fusion.alone(lambda: model.answer(prompt, 320))
        return Timing(len(text.encode()), first_s, rest_s)

    alone = Case(f"{info.name} alone", answer)
    prompts = [chat(problem.question) for problem in generate(5, seed=9, split="test")]
    for n_done in run([alone, plain, ahead], prompts):
        print(f"{n_done} of {len(prompts)}", file=sys.stderr)
    for case in (plain, ahead):
        value, low, high = ratio(case, alone)
        tokens = [max(a.passes.values()) for a in case.answers]
        print(
            f"{case.name}: {value:.2f} ({low:.2f}-{high:.2f}) of {alone.name} "
            f"({alone.rate:.1f} bytes/s); passes {tokens}; "
            f"agreement {case.agreement:.1f} segments; "
            f"outside llama_decode {case.share_outside:.1%}"
        )
    print(f"texts equal: {len(prompts) - len(differences(plain, ahead))} of {len(prompts)}")
    for one, other in differences(plain, ahead):
        print(f"--- without\n{one}\n--- with\n{other}")


def decode_s(fusion: Fusion) -> float:
    """Seconds spent in llama_decode since the load."""
    return sum(source.sessions[0].counters.decode_s for source in fusion.sources)


def context(fusion: Fusion) -> None:
    """Milliseconds of a step, inside and outside llama_decode, by the length of the context."""
    for n_tokens in (200, 1000, 4000):
        text = RawText("the quick brown fox jumps over the lazy dog " * (n_tokens // 9))
        settings = Settings(max_tokens=1000, repetition_guard=False)
        before = decode_s(fusion)
        steps: list[Step] = []
        for event in islice(fusion.stream(text, settings), N_STEPS + 5):
            if len(steps) == 5:  # after the prompt and the first steps
                before = decode_s(fusion)
            assert isinstance(event, Step)
            steps.append(event)
        inside_s = decode_s(fusion) - before
        elapsed_s = mean(step.elapsed_s for step in steps[5:])
        n_passes = mean(sum(step.passes.values()) for step in steps[5:])
        outside_ms = 1000 * (elapsed_s - inside_s / (len(steps) - 6))
        print(
            f"{n_tokens} tokens: {1000 * elapsed_s:.1f} ms a step, {n_passes:.1f} passes, "
            f"{1000 * elapsed_s / n_passes:.2f} ms a pass, {outside_ms:.2f} ms outside"
        )


if __name__ == "__main__":
    main()
