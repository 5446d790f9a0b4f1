"""A fusion as a model of lm-evaluation-harness (package lm-eval, extra ``harness``).

    python -m cf_local.evaluation.harness --model cf-local --model_args fusion=laptop --tasks gsm8k

is the harness's own command with "cf-local" among its models; from Python,
``lm_eval.simple_evaluate(model=FusionLM(fusion), tasks=[...])``. docs/harness.md says what each
number means. This is the only module that imports ``lm_eval``.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS
    from lm_eval.models.utils import normalize_gen_kwargs
    from tqdm import tqdm
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}: lm-evaluation-harness is needed here, pip install 'cf-local[harness]'",
        name=error.name,
    ) from error

from cf_local.errors import Cancelled, CfLocalError, InputError
from cf_local.evaluation.likelihood import Judge, Opening, write
from cf_local.evaluation.variants import WEIGHT
from cf_local.loading.load import load
from cf_local.loading.load_options import LoadOptions
from cf_local.runtime.fusion import Fusion
from cf_local.settings import OPTIONS, Settings
from cf_local.types import Answer, Chat, Message, RawText

T = TypeVar("T")

CHAT = "cf-local chat: "
"""The start of a string that carries a chat through the harness; JSON follows."""

_SETTINGS = OPTIONS.keys() - {"max_tokens", "stop"}
_SAMPLING = {key for key, option in OPTIONS.items() if option.is_sampling} - {"temperature"}
# Arguments that tasks give without an effect.
_WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = {"num_beams": (1,)}


class Request(Protocol):
    """The part of the harness's Instance that is used."""

    args: tuple[Any, ...]


@register_model("cf-local")
class FusionLM(LM):  # type: ignore[misc]  # lm_eval has no types
    """A fusion that the harness asks for answers and likelihoods."""

    def __init__(
        self,
        fusion: Fusion | str | None = None,
        *,
        models: str | Sequence[str] = (),
        context: int | None = None,
        threads: int | None = None,
        gpu_layers: int | None = None,
        overlap: bool | None = None,
        offline: bool = False,
        batch_size: object = None,
        max_batch_size: object = None,
        device: object = None,
        **settings: Any,
    ) -> None:
        """Use a loaded ``fusion``, or load the one of that name, or ``models`` instead.

        ``settings`` are fields of Settings that override those of the fusion. ``batch_size`` and
        ``device``, which the harness always passes, are not used: requests are answered one by
        one, and ``gpu_layers`` says what a GPU gets. Raises InputError, and what ``load`` raises.
        """
        super().__init__()
        weights = {k: settings.pop(k) for k in list(settings) if k.startswith(WEIGHT)}
        if weights:
            settings["weights"] = {k.removeprefix(WEIGHT): float(w) for k, w in weights.items()}
        unknown = settings.keys() - _SETTINGS
        if unknown:
            raise InputError(
                f"{', '.join(sorted(unknown))}: not a model argument; "
                f"settings are {', '.join(sorted(_SETTINGS))}."
            )
        if not isinstance(fusion, Fusion):
            fusion = load(
                fusion,
                models=[models] if isinstance(models, str) else models,
                options=LoadOptions(context, threads, overlap, gpu_layers, offline),
            )
        self.fusion = fusion
        self.settings = fusion.settings.with_options(settings)
        self._judge = Judge(fusion, self.settings)

    # ---- What the harness asks for

    def loglikelihood(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of a continuation in nats, and whether the fusion would write it.

        Requests with the same context are read together, and contexts in the order of their text,
        so that what they share is read once.
        """
        pairs = [_with_spaces_moved(*request.args) for request in requests]
        results: dict[int, tuple[float, bool]] = {}
        for context, indices in _progress(_grouped([c for c, _ in pairs]), disable_tqdm):
            opening, texts = _opening(context), [pairs[index][1] for index in indices]
            nats = self._judge.log_likelihoods(opening, texts)
            is_greedy = self._judge.writes(opening, texts)
            for index, result in zip(indices, zip(nats, is_greedy, strict=True), strict=True):
                results[index] = result
                self.cache_hook.add_partial("loglikelihood", requests[index].args, result)
        return [results[index] for index in range(len(requests))]

    def loglikelihood_rolling(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood of a whole text in nats; a long text is read in windows."""
        results = []
        for request in _progress(requests, disable_tqdm):
            (result,) = self._judge.log_likelihoods(_opening(""), [request.args[0]])
            results.append(result)
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, result)
        return results

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """The fused answer to each request, cut at its stop strings.

        Repeated requests that sample get different seeds; others are answered once.
        """
        results: dict[int, str] = {}
        for context, indices in _progress(
            _grouped([request.args[0] for request in requests]), disable_tqdm
        ):
            answers: dict[Settings, str] = {}
            n_repeats: Counter[Settings] = Counter()
            for index in indices:
                settings = self._settings_for(requests[index].args[1])
                n_repeats[settings] += 1
                settings = self._seeded(settings, n_repeats[settings] - 1)
                if settings not in answers:
                    answers[settings] = self._answer(context, settings)
                results[index] = answers[settings]
                self.cache_hook.add_partial("generate_until", requests[index].args, results[index])
        return [results[index] for index in range(len(requests))]

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """The messages as JSON: every source puts them into its own template later.

        If the last message is the assistant's, it is the beginning of the answer
        (``add_generation_prompt`` is False then). Raises InputError for a message that is not text.
        """
        turns = [[turn["role"], turn["content"]] for turn in chat_history]
        if not all(isinstance(part, str) for turn in turns for part in turn):
            raise InputError("cf-local reads only text; a message contains something else.")
        if add_generation_prompt == (turns[-1][0] == "assistant"):
            raise InputError("A chat must end with a user's message, or the answer's beginning.")
        return CHAT + json.dumps(turns, ensure_ascii=False)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """What the harness records as the template. Raises InputError if one is chosen by name."""
        if isinstance(chat_template, str):
            raise InputError("Each source uses its own template: leave the name out.")
        return f"{CHAT}each source's own template" if chat_template else None

    @property
    def tokenizer_name(self) -> str:
        """The harness's key for its caches of requests, which hold no template's text."""
        return CHAT.strip(": ")

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into its results about this model."""
        settings = self.settings
        return {
            "cf_local_version": version("cf-local"),
            "sources": {source.info.name: source.info.file for source in self.fusion.sources},
            "settings": {key: getattr(settings, key) for key in ("mode", "score", "segments")}
            | {"weights": settings.weights, "only": settings.only},
        }

    # ---- Generation

    def _settings_for(self, gen_kwargs: Mapping[str, Any]) -> Settings:
        """Settings of an answer from a request's arguments. Raises InputError for unknown ones."""
        given = dict(normalize_gen_kwargs(dict(gen_kwargs), DEFAULT_MAX_GEN_TOKS))
        until, n_tokens = given.pop("until"), given.pop("max_gen_toks")
        temperature = given.pop("temperature", 1.0)  # sampling without one is at 1
        if not given.pop("do_sample"):
            temperature = 0.0
        given = {key: value for key, value in given.items() if value is not None}
        sampling = {key: given.pop(key) for key in _SAMPLING & given.keys()}
        unknown = [k for k, v in given.items() if v not in _WITHOUT_EFFECT.get(k, ())]
        if unknown:
            raise InputError(
                f"Generation arguments that cf-local does not know: {', '.join(unknown)}. It knows "
                f"until, max_gen_toks, do_sample, temperature, {', '.join(sorted(_SAMPLING))}."
            )
        own = self.settings
        return replace(
            own,
            stop=(*own.stop, *(text for text in until if text)),
            max_tokens=n_tokens,
            sampling=replace(own.sampling, temperature=temperature, **sampling),
        )

    def _seeded(self, settings: Settings, n_before: int) -> Settings:
        """``settings`` for a request that has been answered ``n_before`` times."""
        if settings.sampling.temperature == 0:
            return settings
        # Within one answer, the sources have consecutive seeds.
        seed = settings.sampling.seed + n_before * len(self.fusion.sources)
        return replace(settings, sampling=replace(settings.sampling, seed=seed))

    def _answer(self, context: str, settings: Settings) -> str:
        opening = self._judge.shortened(_opening(context), settings.max_tokens)
        *_, answer = write(self.fusion, opening, settings)
        assert isinstance(answer, Answer)
        if answer.finish_reason == "cancelled":
            raise Cancelled("The evaluation was cancelled.")
        return answer.text


def main() -> None:
    """The harness's own command, with "cf-local" among its models."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except CfLocalError as error:
        sys.stderr.write(f"Error: {error}\n")
        raise SystemExit(error.exit_code) from error


def _with_spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """The pair with the spaces between them in the continuation, as in the harness."""
    if context.startswith(CHAT):
        return context, continuation
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _opening(context: str) -> Opening:
    """What a context of the harness represents: a chat that went through it, or raw text."""
    if not context.startswith(CHAT):
        return Opening(RawText(context))
    try:
        turns = [Message(role, content) for role, content in json.loads(context[len(CHAT) :])]
    except ValueError:
        raise InputError(
            "This task changes prompts after the chat template was applied, which cf-local cannot "
            "follow, as each source has its own. Run it without --apply_chat_template."
        ) from None
    prefix = turns.pop().content if turns[-1].role == "assistant" else ""
    return Opening(Chat(tuple(turns)), prefix)


def _grouped(keys: Sequence[str]) -> list[tuple[str, list[int]]]:
    """The keys in the order of their text, each with its indices."""
    indices = defaultdict(list)
    for index, key in enumerate(keys):
        indices[key].append(index)
    return sorted(indices.items())


def _progress(things: Sequence[T], disable: bool) -> Sequence[T]:
    shown: Sequence[T] = tqdm(things, desc="cf-local", disable=disable)
    return shown


if __name__ == "__main__":
    main()
