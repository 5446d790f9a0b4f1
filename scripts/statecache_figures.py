"""What caching the state of a long conversation spares, and what it costs.

    python scripts/statecache_figures.py --tokens 2000 --megabytes 400

Makes a model of random weights with a long context and the given size (see ``inflate``), and lets
it answer after a conversation of the given length. Then it resumes that conversation with and
without the saved state, each in a newly loaded fusion, and measures the seconds from the question
to the first word. docs/LOG.md has the results. Needs the `gguf` package.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from inflate import inflate

from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.method.session import Resumable
from cf_local.runtime.fusion import Fusion
from cf_local.settings import Settings
from cf_local.statecache import StateFolder, restore_states, save_states
from cf_local.types import Chat, Message, Step

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = Settings(max_tokens=12, repetition_guard=False)
TURN = "the quick brown fox jumps over the lazy dog, and she sells 24 shells. "


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--megabytes", type=float, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder, given.megabytes)
        states = StateFolder(folder / "states")
        asked = first_session(model, states, given.tokens)
        for _ in range(given.rounds):
            plain_s, plain = second_session(model, states, asked, restores=False)
            cached_s, cached = second_session(model, states, asked, restores=True)
            ratio = f"{plain_s / cached_s:.0f} times"
            print(f"first word: {plain_s:.2f} s read again, {cached_s:.3f} s restored: {ratio}")
            print(f"texts equal: {plain == cached}")


def write_model(folder: Path, n_megabytes: float) -> Path:
    """A Llama of random weights, 24 layers and 8,192 tokens of context."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import tiny_models as tiny

    small, model = folder / "small.gguf", folder / "model.gguf"
    options = {"n_embd": 256, "n_ctx": 8192, "eog_bias": -60.0, "weight_type": "Q8_0"}
    tiny.make_model(small, "llama", tiny.bpe_vocab(), seed=1, **options)
    inflate(small, model, int(n_megabytes * 1e6), 24)
    return model


def opened(model: Path) -> Fusion:
    """A newly loaded fusion."""
    return load(models=[model], options=LoadOptions(n_ctx=8192, fit=False), on_notice=print)


def first_session(model: Path, states: StateFolder, n_tokens: int) -> tuple[Message, ...]:
    """Answer after a long conversation and save it; returns it with its next question."""
    with opened(model) as fusion:
        turns: list[Message] = []
        session = fusion.sources[0].sessions[0]
        assert isinstance(session, Resumable)
        while len(session.prompt_tokens(asked := prompt(turns))) < n_tokens:
            turns += [Message("user", TURN), Message("assistant", TURN * 3)]
        start_s = time.perf_counter()
        answer = fusion.answer(asked, SETTINGS)
        print(f"{answer.prompt_tokens} tokens, read and answered in {since(start_s):.1f} s")
        turns = [*asked.messages, Message("assistant", answer.text)]
        start_s = time.perf_counter()
        n_saved = save_states(fusion, prompt(turns), "owner", folder=states)
        n_bytes = sum(path.stat().st_size for path in states.path.iterdir())
        print(f"{n_saved} saved in {since(start_s):.3f} s: {n_bytes / 1e6:.1f} MB")
    return prompt(turns).messages


def second_session(
    model: Path, states: StateFolder, asked: tuple[Message, ...], *, restores: bool
) -> tuple[float, str]:
    """Seconds to the first word after that conversation, and the text."""
    with opened(model) as fusion:
        if restores:
            start_s = time.perf_counter()
            assert restore_states(fusion, Chat(asked), "owner", folder=states)
            print(f"restored in {since(start_s):.3f} s")
        start_s, first_s, text = time.perf_counter(), 0.0, ""
        for event in fusion.stream(Chat(asked), SETTINGS):
            if isinstance(event, Step):
                first_s = first_s or since(start_s)
                text += event.text
    return first_s, text


def prompt(turns: list[Message]) -> Chat:
    """The turns and one more question."""
    return Chat((*turns, Message("user", "Where is the fox?")))


def since(start_s: float) -> float:
    """Seconds since then."""
    return time.perf_counter() - start_s


if __name__ == "__main__":
    main()
