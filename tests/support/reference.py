"""A slow, obvious implementation of the method page, to compare the engine with.

It shares nothing with the package: no cf_local import, no forks, no batching of candidates,
no saved state but one: when a token list extends the list evaluated last, only
the rest is evaluated. Everything else is computed from scratch, in the page's order:
draft, score, rerank, commit. Words in quotes below are the page's.

Under a grammar the allowed tokens are those of llama.cpp's grammar sampler, made anew for every
token. Left out: chat templates (prompts are token ids), and sampling under a grammar.
"""

from __future__ import annotations

import ctypes
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import llama_cpp.llama_cpp as lc
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CONTEXT_WORDS = 4
ZWJ = "\u200d"


# --- Word boundary --------------------------------------------------------------------------

NO_SPACE_SCRIPTS = (
    "CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC",
    "VERTICAL IDEOGRAPHIC", "HIRAGANA", "HENTAIGANA", "KATAKANA", "HALFWIDTH KATAKANA",
    "THAI", "LAO", "MYANMAR", "KHMER",
)  # fmt: skip


def char_class(char: str) -> str:
    """space, alone (a script without spaces), word (L, M), number (N) or other."""
    if char.isspace():
        return "space"
    if unicodedata.name(char, "").startswith(NO_SPACE_SCRIPTS):
        return "alone"
    return {"L": "word", "M": "word", "N": "number"}.get(unicodedata.category(char)[0], "other")


def is_word_boundary(prev: str, next_: str) -> bool:
    """Whether a word ends between two neighbouring characters ("Word boundary")."""
    a, b = char_class(prev), char_class(next_)
    if a == "space":
        return False
    if unicodedata.category(next_)[0] == "M" or next_ == ZWJ or prev == ZWJ:
        return False
    if "\U0001f3fb" <= next_ <= "\U0001f3ff":  # emoji modifiers
        return False
    return b == "space" or a != b or a in ("other", "alone")


def characters(data: bytes) -> list[tuple[int, str | None]]:
    """(start, character) of each character of `data`.

    Bytes that can never become a character count as U+FFFD; an unfinished character at the
    very end is None: "not completely known".
    """
    found: list[tuple[int, str | None]] = []
    i = 0
    while i < len(data):
        for n in (1, 2, 3, 4):
            try:
                found.append((i, data[i : i + n].decode()))
                break
            except UnicodeDecodeError as problem:
                if problem.reason == "unexpected end of data" and i + n >= len(data):
                    found.append((i, None))
                    return found
                if problem.reason != "unexpected end of data":
                    n = max(1, problem.end - problem.start)
                    found.append((i, "\ufffd"))
                    break
        i += n
    return found


def boundaries(data: bytes) -> list[int]:
    """Positions (bytes) in `data` that are word boundaries; none before an unknown character."""
    return [
        start
        for (_, prev), (start, next_) in pairwise(characters(data))
        if prev is not None and next_ is not None and is_word_boundary(prev, next_)
    ]


def is_whole_character(data: bytes, position: int) -> bool:
    """Whether no character of `data` is cut at `position`; at the end, whether it is finished."""
    chars = characters(data)
    starts = {start for start, _ in chars}
    return position in starts or (position == len(data) and (not chars or chars[-1][1] is not None))


def last_words(response: bytes, n_words: int = CONTEXT_WORDS) -> bytes:
    """The last words of the response: the context in which a segment is tokenized."""
    cuts = [0, *boundaries(response)]
    return response[cuts[-n_words] :] if len(cuts) >= n_words else response


def ends_unfinished(data: bytes) -> bool:
    """Whether `data` ends within a character."""
    chars = characters(data)
    return bool(chars) and chars[-1][1] is None


def is_utf8(data: bytes) -> bool:
    """Whether `data` is UTF-8, or may become it."""
    whole = characters(data)
    end = whole[-1][0] if ends_unfinished(data) else len(data)
    tail = data[end:]
    is_surrogate = tail[:1] == b"\xed" and tail[1:2] >= b"\xa0"
    text = "".join(char for _, char in whole if char is not None)
    return text.encode() == data[:end] and not is_surrogate


# --- One source -----------------------------------------------------------------------------


class RefSource:
    """One model: tokens of a text, without a space prefix, and the logits after each token."""

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",
        n_ctx: int = 2048,
        n_threads: int = 1,
        flash_attention: bool = True,
    ) -> None:
        """On real models llama.cpp's flash attention moves logits by more than a batch's shape."""
        self.name = name or Path(path).stem
        params = lc.llama_model_default_params()
        params.n_gpu_layers = 0
        override = (lc.llama_model_kv_override * 2)()  # the second, empty one ends the list
        override[0].tag = lc.LLAMA_KV_OVERRIDE_TYPE_BOOL
        override[0].key = b"tokenizer.ggml.add_space_prefix"
        value: Any = override[0].value
        value.val_bool = False
        self._override, params.kv_overrides = override, override
        self._model: Any = lc.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ValueError(f"llama.cpp cannot load {path}")
        settings = lc.llama_context_default_params()
        settings.n_ctx = settings.n_batch = self.n_ctx = n_ctx
        settings.n_threads = settings.n_threads_batch = n_threads
        if not flash_attention:
            settings.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context: Any = lc.llama_init_from_model(self._model, settings)
        self._vocab: Any = lc.llama_model_get_vocab(self._model)
        self.n_vocab: int = lc.llama_vocab_n_tokens(self._vocab)
        self.eog = [t for t in range(self.n_vocab) if lc.llama_vocab_is_eog(self._vocab, t)]
        self._evaluated: list[int] = []
        self._after_last: Floats = np.zeros(0)
        self._pieces: dict[int, bytes] = {}
        self._starts: dict[str, list[bool]] = {}  # by the last character of a word

    def close(self) -> None:
        lc.llama_free(self._context)
        lc.llama_model_free(self._model)

    def piece(self, token: int) -> bytes:
        """The bytes a token adds to the text; none for a control token."""
        if token not in self._pieces:
            size = 256
            while True:
                buffer = ctypes.create_string_buffer(size)
                n = lc.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
                if n >= 0:
                    break
                size = -n
            self._pieces[token] = buffer.raw[:n]
        return self._pieces[token]

    def text(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.piece(t) for t in tokens)

    def encode(self, text: bytes) -> list[int]:
        """Tokens of `text` on its own: no BOS, no special tokens, no space prefix, no byte lost."""
        tokens = self._tokenize(text)
        if self.text(tokens) == text:
            return tokens
        tokens, whole = [], characters(text)
        ends = [start for start, _ in whole[1:]] + [len(text)]
        run = b""  # tokenizers spoil bytes that are no UTF-8: give those their byte tokens
        for (start, char), end in zip(whole, ends, strict=True):
            part = text[start:end]
            if char is not None and char.encode() == part:
                run += part
            else:
                tokens += self._tokenize(run) + [t for b in part for t in self._byte_token(b)]
                run = b""
        return tokens + self._tokenize(run)

    def _byte_token(self, byte: int) -> list[int]:
        return [t for t in range(self.n_vocab) if self.piece(t) == bytes([byte])][:1]

    def _tokenize(self, text: bytes) -> list[int]:
        room = (lc.llama_token * (3 * len(text) + 8))()  # a bad byte may become U+FFFD
        n = lc.llama_tokenize(self._vocab, text, len(text), room, len(room), False, False)
        if n < 0:
            raise ValueError(f"{-n} tokens in {len(text)} bytes")
        return list(room[:n])

    def encode_in_context(self, response: bytes, text: bytes) -> list[int]:
        """Tokenize "in context": the last words of the response go first, and are dropped."""
        context = last_words(response)
        head, both = self.encode(context), self.encode(context + text)
        return both[len(head) :] if both[: len(head)] == head else self.encode(text)

    def logits(self, tokens: list[int], n_last: int) -> Floats:
        """(n_last, n_vocab) float64: what follows each of the last `n_last` of `tokens`."""
        if len(tokens) > self.n_ctx:
            raise ValueError(f"{len(tokens)} tokens in a context of {self.n_ctx}")
        if tokens == self._evaluated and n_last == 1:
            return self._after_last
        n_old = len(self._evaluated)
        if tokens[:n_old] != self._evaluated or n_last > len(tokens) - n_old:
            n_old = 0
        if n_old == 0:
            lc.llama_memory_clear(lc.llama_get_memory(self._context), True)
        new = tokens[n_old:]
        batch = lc.llama_batch_init(len(new), 0, 1)
        batch.n_tokens = len(new)
        for i, token in enumerate(new):
            batch.token[i], batch.pos[i] = token, n_old + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = i >= len(new) - n_last
        self._evaluated = []
        status = lc.llama_decode(self._context, batch)
        lc.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        rows = [
            lc.llama_get_logits_ith(self._context, i) for i in range(len(new) - n_last, len(new))
        ]
        values = np.array([np.ctypeslib.as_array(row, (self.n_vocab,)) for row in rows], np.float64)
        self._evaluated, self._after_last = list(tokens), values[-1:]
        return values

    def allowed(self, grammar: str, text: bytes) -> npt.NDArray[np.bool_]:
        """Which tokens may follow `text` under a GBNF grammar, shape (n_vocab,), from scratch."""
        sampler = lc.llama_sampler_init_grammar(self._vocab, grammar.encode(), b"root")
        for token in self.encode(text):
            lc.llama_sampler_accept(sampler, token)
        data = (lc.llama_token_data * self.n_vocab)()
        for token in range(self.n_vocab):
            data[token].id, data[token].logit = token, 0.0
        array = lc.llama_token_data_array(
            data=ctypes.cast(data, lc.llama_token_data_p), size=self.n_vocab, selected=-1
        )
        lc.llama_sampler_apply(sampler, ctypes.byref(array))
        lc.llama_sampler_free(sampler)
        mask = np.array([data[token].logit == 0.0 for token in range(self.n_vocab)])
        for token in np.flatnonzero(mask).tolist():
            piece = self.piece(token)
            if token in self.eog:
                mask[token] = is_utf8(text) and not ends_unfinished(text)
            else:
                is_text = bool(piece) and 0 not in piece and not self._is_control(token)
                mask[token] = is_text and is_utf8(text + piece)
        return mask

    def _is_control(self, token: int) -> bool:
        bits = lc.LLAMA_TOKEN_ATTR_CONTROL | lc.LLAMA_TOKEN_ATTR_UNKNOWN
        return bool(lc.llama_vocab_get_attr(self._vocab, token) & bits)

    def log_probabilities(self, before: list[int], tokens: list[int]) -> Floats:
        """(len(tokens) + 1, n_vocab): what follows `before`, and each of `tokens`, in nats."""
        logits = self.logits(before + tokens, len(tokens) + 1)
        top = logits.max(axis=1, keepdims=True)
        return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))

    def word_end(self, before: list[int], tokens: list[int]) -> float:
        """Nats of the end of the last word: of "all tokens that begin a new word" after it."""
        text = self.text(tokens)
        chars = [char for _, char in characters(text)]
        if not chars or chars[-1] is None or chars[-1].isspace():
            return math.inf  # no word ends there
        if chars[-1] not in self._starts:
            self._starts[chars[-1]] = [
                bool(piece := self.piece(token))
                and (first := characters(piece)[0][1]) is not None
                and is_word_boundary(chars[-1], first)
                for token in range(self.n_vocab)
            ]
        row = self.log_probabilities(before, tokens)[-1]
        total = float(np.exp(row[self._starts[chars[-1]]]).sum())
        return -math.log(total) if total > 0 else math.inf

    def nlls(self, before: list[int], tokens: list[int], ends: bool) -> list[float]:
        """Nats: a term for each token after `before`, and one for all EOG tokens together."""
        log_p = self.log_probabilities(before, tokens)
        terms = [-float(log_p[i, token]) for i, token in enumerate(tokens)]
        if ends:
            terms.append(-math.log(max(float(np.exp(log_p[-1, self.eog]).sum()), 1e-300)))
        return terms


# --- What goes in and out -------------------------------------------------------------------


@dataclass(frozen=True)
class RefSampling:
    """How a source picks its next token ("Sampling and penalties")."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    logit_bias: dict[str, float] | None = None
    seed: int = 0


@dataclass(frozen=True)
class RefSettings:
    mode: Literal["cool", "rerank", "cool+r", "single"] = "cool"
    segments: Literal["aligned", "shortest", "sentence"] = "aligned"
    segment_words: int = 1
    score: Literal["mixture", "perplexity", "nll", "bits_per_byte"] = "mixture"  # paper: perplexity
    weights: tuple[float, ...] | None = None  # default: equal
    max_tokens: int = 64
    segment_limit: int = 32
    single: int = 0  # which source, in mode "single"
    grammar: str | None = None  # GBNF
    sampling: RefSampling = RefSampling()
    opening: str = ""  # the tag with which all prompts end
    max_thinking_tokens: int | None = None
    tie_tolerance: float = 1e-2  # logits, and nats (perplexity, nll) or bits per byte


@dataclass(frozen=True)
class RefDraft:
    tokens: list[int]
    text: bytes
    ends: bool
    margin: float  # smallest lead of the top logit over the second, over all argmaxes taken;
    # of draws: 0 where rounding could change one
    is_stuck: bool = False  # the grammar allowed no token: it abstains


@dataclass(frozen=True)
class RefCandidate:
    text: bytes
    ends: bool
    proposers: tuple[int, ...]  # indices of sources; in "cool+r", len(sources) is the fused answer


@dataclass(frozen=True)
class RefStep:
    candidates: list[RefCandidate]
    scores: Floats | None  # (n_sources, n_candidates); None: unanimous, not scored
    means: Floats | None  # (n_candidates,)
    winner: int  # index into candidates
    draft_margins: tuple[float, ...]  # logits, one per source
    score_margin: float  # lead over the runner-up: log ratio of perplexities, else difference
    near_tie: bool


@dataclass(frozen=True)
class RefResult:
    text: bytes
    steps: list[RefStep]
    finish_reason: Literal["stop", "length", "stuck"]
    tokens: list[list[int]]  # each source's own tokens of the response
    answers: list[RefResult] = field(default_factory=list)  # reranking: what was reranked

    @property
    def was_closed(self) -> bool:
        return any(not c.proposers for s in self.steps for c in s.candidates)

    @property
    def near_tie(self) -> bool:
        return any(s.near_tie for s in self.steps) or any(a.near_tie for a in self.answers)


# --- Choosing a token -----------------------------------------------------------------------


def adjusted(source: RefSource, row: Floats, written: list[int], sampling: RefSampling) -> Floats:
    """A row of logits after `written`, the response in the source's own tokens."""
    new = row.copy()
    for text, number in (sampling.logit_bias or {}).items():
        for token in wanted(source, text, written, only_last=number < 0):
            new[token] += number
    recent = written[-64:]
    for token in set(recent):
        if new[token] > 0:
            new[token] /= sampling.repeat_penalty
        else:
            new[token] *= sampling.repeat_penalty
        new[token] -= sampling.presence_penalty + sampling.frequency_penalty * recent.count(token)
    for token in set(written) if sampling.dry_multiplier else ():
        n = n_repeated(source, written, token)
        if n >= sampling.dry_allowed_length and not breaks(source, token):
            growth = sampling.dry_base ** min(n - sampling.dry_allowed_length, 100)
            new[token] -= min(sampling.dry_multiplier * growth, 1e4)
    return new


def wanted(source: RefSource, text: str, written: list[int], only_last: bool) -> set[int]:
    """The tokens that write `text`, with a space before it or not, or write more of it."""
    found = set()
    for spelling in [text] if text[0].isspace() else [text, " " + text]:
        tokens = source.encode(spelling.encode())
        for n, token in enumerate(tokens):
            is_begun = tokens[:n] == written[len(written) - n :]
            if is_begun and (n + 1 == len(tokens) or not only_last):
                found.add(token)
    return found


def breaks(source: RefSource, token: int) -> bool:
    """Whether a token ends what counts as one repetition ("DRY")."""
    return any(mark in source.piece(token) for mark in (b"\n", b":", b'"', b"*"))


def n_repeated(source: RefSource, written: list[int], token: int) -> int:
    """The most tokens before `token`, wherever it occurs, that `written` ends with, too."""
    most = 0
    for place in range(1, len(written)):
        n = 0
        while (
            written[place] == token
            and n < place
            and written[place - 1 - n] == written[-1 - n]
            and not breaks(source, written[-1 - n])
        ):
            n += 1
        most = max(most, n)
    return most


def draw(row: Floats, sampling: RefSampling, generator: tuple[int, int, int]) -> int:
    """The token drawn: what is left is cut by top-k, then top-p, then min-p, then warmed."""
    left = list(range(len(row)))
    if sampling.top_k > 0 or sampling.top_p < 1:
        left.sort(key=lambda token: -row[token])
    if sampling.top_k > 0:
        left = left[: sampling.top_k]
    if sampling.top_p < 1:
        shares = np.exp(row[left] - row[left].max())
        shares /= shares.sum()
        n_left = 1
        while shares[:n_left].sum() < sampling.top_p and n_left < len(left):
            n_left += 1
        left = left[:n_left]
    if sampling.min_p > 0:
        lowest = row[left].max() + math.log(sampling.min_p)
        left = [token for token in left if row[token] >= lowest]
    shares = np.exp((row[left] - row[left].max()) / sampling.temperature)
    place = np.random.default_rng(generator).random() * shares.sum()
    reached = 0.0
    for token, share in zip(left, shares, strict=True):
        reached += share
        if place < reached:
            return token
    return left[-1]


def choose(
    row: Floats, settings: RefSettings, generator: tuple[int, int, int]
) -> tuple[int, float]:
    """The next token, and its margin."""
    if settings.sampling.temperature == 0:
        best = int(np.argmax(row))
        return best, float(row[best] - np.delete(row, best).max())
    chosen, noise = draw(row, settings.sampling, generator), np.random.default_rng(0)
    for _ in range(6):
        off = noise.uniform(-1, 1, len(row)) * settings.tie_tolerance / 2
        if draw(row + off, settings.sampling, generator) != chosen:
            return chosen, 0.0
    return chosen, math.inf


# --- Thinking -------------------------------------------------------------------------------

THINKING = {f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning")}
THINKING |= {"<seed:think>": "</seed:think>", "[THINK]": "[/THINK]"}


def open_tag(response: bytes, settings: RefSettings) -> str:
    """The tag within which the response ends ("A limit for thinking"), or ""."""
    if settings.opening:
        closed = any(tag.encode() in response for tag in THINKING.values())
        return "" if closed else settings.opening
    for tag, closing in THINKING.items():
        if response.decode(errors="replace").lstrip().startswith(tag):
            return "" if closing.encode() in response else tag
    return ""


def end_of_thinking(response: bytes, n_thought: int, settings: RefSettings) -> bytes:
    """What the answer goes on with after `n_thought` tokens of thinking; empty: nothing yet."""
    tag = open_tag(response, settings)
    if settings.max_thinking_tokens is None or n_thought < settings.max_thinking_tokens or not tag:
        return b""
    tags = THINKING.values() if settings.opening else [THINKING[tag]]
    may_close = any(response.endswith(t[:n].encode()) for t in tags for n in range(1, len(t)))
    if may_close or ends_unfinished(response):
        return b""
    start = b"" if settings.opening else response[: response.index(tag.encode()) + len(tag)]
    line = b"" if response[len(start) :].endswith(b"\n") else b"\n"
    return line + THINKING[tag].encode() + b"\n\n"


# --- One step -------------------------------------------------------------------------------


def is_common_boundary(
    sources: Sequence[RefSource], me: int, response: bytes, text: bytes, ahead: bytes, aligned: bool
) -> bool:
    """Whether a draft may end after `text`, its source's next token being `ahead`."""
    if not text or len(response + text) not in boundaries(response + text + ahead):
        return False
    return not aligned or len(text) in _common_ends(sources, me, response, text + ahead)


def _common_ends(sources: Sequence[RefSource], me: int, response: bytes, seen: bytes) -> set[int]:
    """Positions in `seen` where a token ends in every source's tokenization but the drafter's."""
    chars = characters(response + seen)
    if chars and chars[-1][1] is None:  # an unfinished character is no text yet
        seen = seen[: max(0, chars[-1][0] - len(response))]
    common = set(range(len(seen) + 1))
    for k, source in enumerate(sources):
        if k != me:
            ends, end = set(), 0
            for token in source.encode_in_context(response, seen):
                end += len(source.piece(token))
                ends.add(end)
            common &= ends
    return common


def ends_sentence(text: bytes, ahead: bytes) -> bool:
    """Whether a sentence ends where `text` does ("Longer segments"); `ahead` comes next."""
    chars, next_ = [c or "" for _, c in characters(text)], characters(ahead)[0][1] or ""
    if next_ in ("\r", "\n"):
        return True

    def closes(char: str) -> bool:
        return char in tuple("\"'*_`") or (char and unicodedata.category(char)) in ("Pe", "Pf")

    while chars and closes(chars[-1]):
        chars.pop()
    last = chars[-1] if chars else ""
    if closes(next_) or not last:
        return False
    if last in ".!?…‼⁇⁈⁉":
        return next_.isspace()
    return last in "。！？｡．" and next_ not in tuple(".!?…‼⁇⁈⁉。！？｡．")


def draft(
    sources: Sequence[RefSource],
    me: int,
    prompt: list[int],
    own: list[int],
    response: bytes,
    limit: int,
    settings: RefSettings,
    n_renewed: int = 0,
) -> RefDraft:
    """Draft (rule 1): decode to where the segment may end, an EOG token or the limit.

    `own` is the response in its own tokens.
    """
    source, tokens, margin = sources[me], list[int](), math.inf
    aligned = settings.segments != "shortest"
    words: list[int] = []  # tokens down to each common word boundary
    while True:
        row = source.logits(prompt + own + tokens, 1)[-1]
        row = adjusted(source, row, own + tokens, settings.sampling)
        text = source.text(tokens)
        if settings.grammar is not None:
            row = np.where(source.allowed(settings.grammar, response + text), row, -np.inf)
        if row.max() == -np.inf:
            return RefDraft([], b"", False, margin, is_stuck=True)
        position = len(prompt + own + tokens) - 1
        ahead, lead = choose(row, settings, (settings.sampling.seed + me, n_renewed, position))
        margin = min(margin, lead)
        if ahead in source.eog:
            return RefDraft(tokens, text, True, margin)
        if is_common_boundary(sources, me, response, text, source.piece(ahead), aligned):
            words.append(len(tokens))
            is_sentence = ends_sentence(text, source.piece(ahead))
            enough = len(words) >= settings.segment_words
            if is_sentence if settings.segments == "sentence" else enough:
                return RefDraft(tokens, text, False, margin)
        if len(tokens) == limit:
            if words:
                tokens = tokens[: words[-1]]
            else:
                tokens = _forced_cut(sources, me, response, tokens, source.piece(ahead), aligned)
            text = source.text(tokens)
            return RefDraft(tokens, text, not text, margin)  # no text at all: nothing will come
        tokens.append(ahead)


def _forced_cut(
    sources: Sequence[RefSource],
    me: int,
    response: bytes,
    tokens: list[int],
    ahead: bytes,
    aligned: bool,
) -> list[int]:
    """Cut at "the last position that is a whole character and common", or the nearest to it."""
    source = sources[me]
    seen = source.text(tokens) + ahead
    common = _common_ends(sources, me, response, seen)
    whole = []
    for n in range(len(tokens), 0, -1):
        position = len(source.text(tokens[:n]))
        if position and is_whole_character(response + seen, len(response) + position):
            if not aligned or position in common:
                return tokens[:n]
            whole.append(n)
    return tokens[: whole[0]] if whole else tokens


def score_of(terms: list[float], n_bytes: int, kind: str) -> float:
    """One entry of the score matrix from its NLL terms (nats)."""
    if kind == "bits_per_byte":
        return sum(terms) / math.log(2) / max(1, n_bytes)
    mean = sum(terms) / max(1, len(terms))
    return math.exp(min(mean, 700.0)) if kind == "perplexity" else mean


def score_matrix(
    sources: Sequence[RefSource],
    before: list[list[int]],
    candidates: list[RefCandidate],
    ways: list[list[list[int]]],
    kind: str,
    *,
    whole: bool = False,
) -> Floats | None:
    """Score (rule 2): `ways[k][j]` is candidate j in tokens of source k. None: unanimous.

    `mixture` of `whole` answers is a mean of terms like `nll`.
    """
    if len(candidates) == 1:
        return None
    scores = np.zeros((len(sources), len(candidates)))
    for k, j in np.ndindex(scores.shape):
        terms = sources[k].nlls(before[k], ways[k][j], candidates[j].ends)
        if kind == "mixture" and not whole:
            ends = candidates[j].ends
            scores[k, j] = sum(terms) + (0 if ends else sources[k].word_end(before[k], ways[k][j]))
        else:
            scores[k, j] = score_of(terms, len(candidates[j].text), kind)
    return scores


def gather(drafts: Sequence[tuple[bytes, bool]]) -> list[RefCandidate]:
    """Distinct (text, ends) pairs, in the order of their first proposers."""
    proposers: dict[tuple[bytes, bool], list[int]] = {}
    for k, pair in enumerate(drafts):
        proposers.setdefault(pair, []).append(k)
    return [RefCandidate(text, ends, tuple(who)) for (text, ends), who in proposers.items()]


def rerank(
    candidates: list[RefCandidate],
    scores: Floats | None,
    margins: tuple[float, ...],
    settings: RefSettings,
) -> RefStep:
    """Rerank (rule 3): weighted mean over the sources, the lowest wins, the first at a tie."""
    means, winner, lead = None, 0, math.inf
    if scores is not None:
        weights = settings.weights or (1.0,) * len(scores)
        means = (
            pooled(scores, weights)
            if settings.score == "mixture"
            else (weighted_means(scores, weights))
        )
        winner = int(np.argmin(means))
        best, second = sorted(means)[:2]
        lead = float(math.log(second / best) if settings.score == "perplexity" else second - best)
    near = min(lead, *margins) <= settings.tie_tolerance
    return RefStep(candidates, scores, means, winner, margins, lead, near)


def weighted_means(scores: Floats, weights: Sequence[float]) -> Floats:
    """One mean for each candidate; a source of weight 0 does not count at all."""
    means = []
    for column in scores.T.tolist():
        counted = [(s, w) for s, w in zip(column, weights, strict=True) if w > 0]
        means.append(sum(s * w for s, w in counted) / sum(w for _, w in counted))
    return np.array(means)


def pooled(scores: Floats, weights: Sequence[float]) -> Floats:
    """`mixture`: minus the log of the weighted mean of probabilities, of each candidate."""
    found = []
    for column in scores.T.tolist():
        counted = [(-s, w / sum(weights)) for s, w in zip(column, weights, strict=True) if w > 0]
        top = max(log_p for log_p, _ in counted)
        if top == -math.inf:
            found.append(math.inf)
            continue
        found.append(-top - math.log(sum(w * math.exp(log_p - top) for log_p, w in counted)))
    return np.array(found)


def cool(
    sources: Sequence[RefSource], prompts: list[list[int]], settings: RefSettings
) -> RefResult:
    """Steps until the winner ends or every source holds `max_tokens` tokens of the response."""
    n, response, steps = len(sources), b"", list[RefStep]()
    own: list[list[int]] = [[] for _ in sources]
    n_renewed = [0] * n  # a source draws anew after text that is not its own
    thinks_from: list[int] | None = None  # tokens of each source before its thinking
    while True:
        if thinks_from is None and open_tag(response, settings):
            thinks_from = [len(tokens) for tokens in own]
        if thinks_from is not None:
            n_thought = min(len(own[k]) - thinks_from[k] for k in range(n))
            closing = end_of_thinking(response, n_thought, settings)
            if closing:
                alone = [RefCandidate(closing, False, ())]
                steps.append(RefStep(alone, None, None, 0, (), math.inf, False))
                own = [own[k] + sources[k].encode_in_context(response, closing) for k in range(n)]
                response += closing
                n_renewed = [count + 1 for count in n_renewed]
                if min(len(tokens) for tokens in own) >= settings.max_tokens:
                    return RefResult(response, steps, "length", own)
        fewest = min(len(tokens) for tokens in own)
        left = settings.max_tokens - fewest
        limits = [
            min(settings.segment_limit, left) if len(own[k]) == fewest else settings.segment_limit
            for k in range(n)
        ]
        before = [prompts[k] + own[k] for k in range(n)]
        drafts = [
            draft(sources, k, prompts[k], own[k], response, limits[k], settings, n_renewed[k])
            for k in range(n)
        ]
        if all(d.is_stuck for d in drafts):
            return RefResult(response, steps, "stuck", own)
        heard = [k for k, d in enumerate(drafts) if not d.is_stuck]
        candidates = [
            replace(c, proposers=tuple(heard[i] for i in c.proposers))
            for c in gather([(drafts[k].text, drafts[k].ends) for k in heard])
        ]

        ways = [
            [
                drafts[k].tokens
                if k in c.proposers
                else sources[k].encode_in_context(response, c.text)
                for c in candidates
            ]
            for k in range(n)
        ]
        scores = score_matrix(sources, before, candidates, ways, settings.score)
        margins = tuple(d.margin for d in drafts)
        step = rerank(candidates, scores, margins, settings)
        steps.append(step)

        won = candidates[step.winner]
        own = [own[k] + ways[k][step.winner] for k in range(n)]
        n_renewed = [n_renewed[k] + (k not in won.proposers) for k in range(n)]
        response += won.text
        if won.ends:
            return RefResult(response, steps, "stop", own)
        if min(len(tokens) for tokens in own) >= settings.max_tokens:
            return RefResult(response, steps, "length", own)


def alone(
    sources: Sequence[RefSource], prompts: list[list[int]], k: int, settings: RefSettings
) -> RefResult:
    """Mode `single`: "one named source alone, through the same code path"."""
    return cool([sources[k]], [prompts[k]], replace(settings, weights=None))


def choose_answer(
    sources: Sequence[RefSource], prompts: list[list[int]], settings: RefSettings, with_cool: bool
) -> RefResult:
    """Modes `rerank` and `cool+r`: the whole answer with the lowest mean score."""
    # "At the end of every word": the text itself is the same for all segments.
    words = replace(settings, segments="aligned", segment_words=1, segment_limit=10**6)
    answers = [alone(sources, prompts, k, words) for k in range(len(sources))]
    if with_cool:
        answers.append(cool(sources, prompts, settings))
    whole = [k for k, a in enumerate(answers) if a.finish_reason == "stop"]
    if not (settings.grammar and whole):  # with a grammar, complete answers win over others
        whole = list(range(len(answers)))
    candidates = [
        replace(c, proposers=tuple(whole[i] for i in c.proposers))
        for c in gather([(answers[k].text, answers[k].finish_reason == "stop") for k in whole])
    ]
    ways = [
        [
            answers[k].tokens[0]
            if k in c.proposers and not answers[k].was_closed
            else sources[k].encode(c.text)
            for c in candidates
        ]
        for k in range(len(sources))
    ]
    scores = score_matrix(sources, prompts, candidates, ways, settings.score, whole=True)
    step = rerank(candidates, scores, (math.inf,), settings)
    won = answers[candidates[step.winner].proposers[0]]
    return RefResult(won.text, [step], won.finish_reason, won.tokens, answers)


def fuse(
    sources: Sequence[RefSource], prompts: list[list[int]], settings: RefSettings
) -> RefResult:
    """One answer from `sources`, each with its own ready prompt (token ids)."""
    if settings.mode == "single":
        return alone(sources, prompts, settings.single, settings)
    if settings.mode == "cool":
        return cool(sources, prompts, settings)
    return choose_answer(sources, prompts, settings, with_cool=settings.mode == "cool+r")
