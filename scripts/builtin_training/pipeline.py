"""From nothing to a measured GGUF file, for one source."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from .conversations import Tokens, Windows, conversations, encode, pack
from .gguf_file import read_gguf, write_gguf
from .measure import accuracy, worst_parity
from .network import Network, Shape, gguf_weights, load_gguf_weights
from .runtime import Message, Runtime
from .sources import SOURCES, Source
from .training import Plan, train
from .vocabulary import Vocabulary, train_vocabulary

_SHORT_WINDOW = 256
_VOCABULARY_SHARE = 0.2  # of the conversations
_EXAMPLE = "Tom has 23 apples and buys 14 more. How many apples does he have now?"


class Pipeline:
    """One source being made; ``run`` does it all, in the order of the methods below."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.source: Source = SOURCES[options.only]
        self.seed = self.source.seed + bool(options.start_from)  # not the same text twice
        self.shape = Shape()
        self.started = time.monotonic()
        self.path: Path = options.out / f"{self.source.name}.gguf"
        self.start_path: Path = Path(options.start_from or "") / self.path.name
        self.partial = self.path.with_suffix(".partial")  # what is written while training goes on

    def run(self) -> None:
        """Train, export and measure the source."""
        self.options.out.mkdir(parents=True, exist_ok=True)
        texts = conversations(self.source, self.options.problems, self.seed)
        some = texts[: int(len(texts) * _VOCABULARY_SHARE)]
        if self.options.start_from:
            vocabulary, _ = read_gguf(self.start_path)
        else:
            vocabulary = train_vocabulary(self.source, [m["content"] for c in some for m in c])
        encoded = self.tokenize(vocabulary, texts)
        network = self.train(vocabulary, *self.windows(encoded))
        self.measure(network)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        elapsed_s = time.monotonic() - self.started
        print(f"{self.source.name:>5} {elapsed_s:5.0f} s  {text}", flush=True)

    def tokenize(self, vocabulary: Vocabulary, texts: list[list[Message]]) -> list[Tokens]:
        """Tokenize with llama.cpp, from a file that holds the vocabulary alone."""
        write_gguf(self.partial, self.source, vocabulary, self.shape)
        tokenizer = Runtime(self.partial, self.source, vocab_only=True)
        check_round_trip(tokenizer, texts)
        encoded = [encode(tokenizer, messages) for messages in texts]
        tokenizer.close()
        n_tokens = sum(len(ids) for ids, _ in encoded)
        self.say(
            f"{len(texts)} conversations, {n_tokens} tokens, {tokenizer.n_vocab} in vocabulary"
        )
        return encoded

    def windows(self, encoded: list[Tokens]) -> tuple[Windows, Windows]:
        """The short windows that training starts with, and the long ones it ends with."""
        return pack(encoded, _SHORT_WINDOW), pack(encoded[::-1], self.shape.n_context)

    def train(self, vocabulary: Vocabulary, short: Windows, long: Windows) -> Network:
        """Train the network and write it, now and then as ``.partial``, at the end as ``.gguf``."""
        torch.manual_seed(self.seed)
        torch.set_num_threads(1)
        qkv_bias = self.source.architecture == "qwen2"
        network = Network(self.shape, len(vocabulary.tokens), qkv_bias)
        if self.options.start_from:
            _, weights = read_gguf(self.start_path)
            load_gguf_weights(network, self.source.architecture, weights)

        def report(step: int, loss: float) -> None:
            self.say(f"step {step}  loss {loss:.4f}")
            if step % 500 == 0:
                self.export(vocabulary, network)

        options = self.options
        plan = Plan(options.steps, self.seed, options.minutes, options.rate)
        n_steps = train(network, short, long, plan, report)
        self.export(vocabulary, network)
        self.partial.replace(self.path)
        size_mb = self.path.stat().st_size / 1e6
        self.say(f"{n_steps} steps done, wrote {self.path.name} ({size_mb:.2f} MB)")
        return network

    def export(self, vocabulary: Vocabulary, network: Network) -> None:
        """Write the network as it is now."""
        weights = gguf_weights(network, self.source.architecture)
        write_gguf(self.partial, self.source, vocabulary, self.shape, weights)

    def measure(self, network: Network) -> None:
        """Print how well the file agrees with the network, and its greedy accuracy."""
        runtime = Runtime(self.path, self.source)
        worst, n_different = worst_parity(network, runtime, n_prompts=6)
        self.say(
            f"file against network: log-probabilities differ by {worst:.4f} at most, "
            f"the best token {n_different} times"
        )
        for skill, share in accuracy(runtime, self.options.measured).items():
            own = "  (its own)" if skill in self.source.strong else ""
            self.say(f"right on unseen problems, {skill:>10}: {share:6.1%}{own}")
        self.say(f"example: {runtime.answer([{'role': 'user', 'content': _EXAMPLE}])}")
        runtime.close()


def check_round_trip(tokenizer: Runtime, texts: list[list[Message]]) -> None:
    """Every training text must come back from its tokens, or the vocabulary is wrong."""
    for message in (message for messages in texts for message in messages):
        back = tokenizer.decode(tokenizer.encode(message["content"]))
        if back.removeprefix(" ") != message["content"]:
            raise SystemExit(f"{message['content']!r} comes back as {back!r}")
