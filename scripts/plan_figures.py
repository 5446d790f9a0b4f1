"""Compare what a set of models needs according to `plan` with what loading and answering takes.

    python scripts/plan_figures.py [SET ...] [--json]

Every set is loaded in a process of its own and answers a prompt. Its peak of resident memory
(VmHWM, so Linux only) is compared with the estimate: what the process held before the load, plus
what the plan says. Both cover everything: weights are mapped, and llama.cpp touches all their pages
during the load; it does the same with the KV cache, which it clears. The prompt is as long as the
context allows (at most 600 tokens for the sets with large files, where reading 4,000 takes
minutes), so that buffers are touched, too. Weights that llama.cpp rearranges for the CPU count
twice, since the pages of their file remain resident until the system needs the memory. The models
are written into a temporary folder: inflated built-in ones, and random ones of several
architectures, with real vocabularies from `.cache` if they are there. Needs `gguf`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VOCABULARIES = ROOT / ".cache" / "llama.cpp-models"
BUILTIN = ROOT / "cf_local" / "builtin"
_LONG_TEXT = "The quick brown fox jumps over the lazy dog. She sells 24 shells for 68 dollars. "

Files = list[Path]
Maker = Callable[[Path], Files]


def main() -> None:
    """Measure the sets that the command line names, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], metavar="SET", help=", ".join(SETS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(**json.loads(given.child))))
        return
    if not given.json:
        print("| set | estimate | measured | error | within 15% or 100 MB |")
        print("| --- | --- | --- | --- | --- |")
    for name in given.sets or SETS:
        with tempfile.TemporaryDirectory() as folder:
            found = _in_a_process(name, Path(folder))
        print(json.dumps({"set": name} | found) if given.json else _row(name, found))


def _in_a_process(name: str, folder: Path) -> dict[str, Any]:
    make, options = SETS[name]
    task = {"models": [str(path) for path in make(folder)], **options}
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(
    models: list[str],
    *,
    n_ctx: int | None = None,
    kv_type: Any = None,
    n_prompt: int | None = None,
    max_tokens: int = 24,
    n_conversations: int = 1,
) -> dict[str, Any]:
    """Load and answer in every conversation; returns the estimate and the peak, in bytes."""
    from cf_local.loading.fit import fit
    from cf_local.loading.load import choose, load
    from cf_local.loading.load_options import LoadOptions
    from cf_local.registry.registry import load_registry
    from cf_local.settings import Settings
    from cf_local.types import RawText

    options = LoadOptions(n_ctx=n_ctx, kv_type=kv_type, n_conversations=n_conversations)
    before = _status("VmRSS")
    plan = fit(choose(load_registry(), None, models)[0], options).plan
    copied = sum(each.copied for each in plan.arrangements)
    with load(models=models, options=options, on_notice=lambda _text: None) as fusion:
        loaded = _status("VmRSS")
        room = min(each.n_ctx for each in plan.arrangements) - 48
        sessions = [source.sessions[0] for source in fusion.sources]
        prompt = RawText(_text_of(sessions, min(room, n_prompt or room)))
        used = max(len(session.prompt_tokens(prompt)) for session in sessions)
        prompts = [
            RawText(f"{i} {prompt.text}"[: len(prompt.text)]) for i in range(n_conversations)
        ]
        with ThreadPoolExecutor(n_conversations) as pool:
            answers = [
                pool.submit(fusion.answer, p, Settings(max_tokens=max_tokens)) for p in prompts
            ]
        for answer in answers:
            answer.result()
    return {
        "estimate": before + plan.n_main + copied,
        "measured": _status("VmHWM"),
        "before": before,
        "loaded": loaded,
        "copied": copied,
        "prompt_tokens": used,
        "needs": [
            {"source": each.source, "n_ctx": each.n_ctx, "program": each.main.program,
             "weights": each.main.weights, "cache": each.main.cache, "buffers": each.main.buffers}
            for each in plan.arrangements
        ],
    }  # fmt: skip


def _text_of(sessions: Any, n_tokens: int) -> str:
    """A text of at most ``n_tokens`` in every session."""
    from cf_local.types import RawText

    words = (_LONG_TEXT * (1 + n_tokens // 8)).split(" ")
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        prompt = RawText(" ".join(words[:middle]))
        fits = all(len(session.prompt_tokens(prompt)) <= n_tokens for session in sessions)
        low, high = (middle, high) if fits else (low, middle - 1)
    return " ".join(words[:low])


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("/proc/self/status has no " + key)


def _row(name: str, found: dict[str, Any]) -> str:
    estimate, measured = found["estimate"], found["measured"]
    error = estimate - measured
    holds = abs(error) <= max(100e6, 0.15 * measured)
    share = 100 * error / measured
    return (
        f"| {name} | {estimate / 1e6:.0f} MB | {measured / 1e6:.0f} MB | {error / 1e6:+.0f} MB "
        f"({share:+.0f}%) | {'yes' if holds else 'NO'} |"
    )


# ---- The sets


def _builtin(_folder: Path) -> Files:
    return [BUILTIN / f"{name}.gguf" for name in ("ash", "birch", "cedar")]


def _inflated(**megabytes: int) -> Maker:
    def make(folder: Path) -> Files:
        sys.path.insert(0, str(ROOT / "scripts"))
        from inflate import inflate

        paths = []
        for name, size in megabytes.items():
            paths.append(folder / f"{name}-{size}.gguf")
            inflate(BUILTIN / f"{name}.gguf", paths[-1], size * 1_000_000, 24)
        return paths

    return make


def _random(*models: tuple[str, str | None, dict[str, Any]]) -> Maker:
    """Random models: architecture, a real vocabulary or None for a tiny one, more arguments."""

    def make(folder: Path) -> Files:
        sys.path.insert(0, str(ROOT / "tests" / "support"))
        import tiny_models as tiny

        paths = []
        for index, (architecture, vocabulary, arguments) in enumerate(models):
            if vocabulary is None:
                words = tiny.bpe_vocab()
            else:
                words = tiny.graft_vocab(VOCABULARIES / f"ggml-vocab-{vocabulary}.gguf")
            path = folder / f"{architecture}-{vocabulary or 'tiny'}-{index}.gguf"
            paths.append(tiny.make_model(path, architecture, words, **{"seed": index} | arguments))
        return paths

    return make


_WIDE = {"n_embd": 256, "weight_type": "Q8_0", "n_ctx": 4096}
_LONG = {"n_embd": 256, "weight_type": "Q8_0", "n_ctx": 32768}
SETS: dict[str, tuple[Maker, dict[str, Any]]] = {
    "built-in": (_builtin, {}),
    "built-in, 8 conversations": (_builtin, {"n_conversations": 8}),
    "400 MB, 4 conversations": (_inflated(birch=400), {"n_conversations": 4}),
    "of one mind, 152k, 4 conversations": (
        _random(*2 * [("qwen2", "qwen2", _WIDE | {"seed": 5})]),
        {"n_prompt": 300, "max_tokens": 150, "n_conversations": 4},
    ),
    "120+400 MB": (_inflated(ash=120, birch=400), {}),
    "1 GB": (_inflated(cedar=1000), {}),
    "vocabularies of 128k and 152k": (
        _random(("llama", "llama-bpe", _WIDE), ("qwen2", "qwen2", _WIDE)),
        {"n_prompt": 1500},
    ),
    "two of one mind, 152k": (
        _random(*2 * [("qwen2", "qwen2", _WIDE | {"seed": 5})]),
        {"n_prompt": 300, "max_tokens": 150},
    ),
    "vocabulary of 262k": (_random(("gemma3", "gemma-4", _WIDE)), {"n_prompt": 1500}),
    "window, hybrid, recurrent": (
        _random(("gemma3", None, _WIDE), ("jamba", None, _WIDE), ("mamba", None, _WIDE)),
        {"n_prompt": 1500},
    ),
    "context of 32k": (
        _random(("qwen2", None, _LONG), ("llama", None, _LONG)),
        {"n_ctx": 32768},
    ),
    "context of 32k, q8_0": (
        _random(("qwen2", None, _LONG), ("llama", None, _LONG)),
        {"n_ctx": 32768, "n_prompt": 12000, "kv_type": "q8_0"},
    ),
    "rearranged weights": (
        _random(("llama", None, {"n_embd": 2048, "weight_type": "Q4_0", "n_ctx": 4096})),
        {"n_prompt": 300},
    ),
}

if __name__ == "__main__":
    main()
