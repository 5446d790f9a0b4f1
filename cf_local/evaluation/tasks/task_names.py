"""From the name of a task on the command line to the task."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cf_local.errors import InputError
from cf_local.evaluation.tasks import gsm8k, mgsm, references
from cf_local.evaluation.tasks.builtin import WordProblems
from cf_local.evaluation.tasks.custom import load_task
from cf_local.evaluation.tasks.file import SUFFIXES, QuestionFile
from cf_local.evaluation.tasks.gsm8k import Gsm8k
from cf_local.evaluation.tasks.mgsm import Mgsm
from cf_local.evaluation.tasks.references import ReferenceFile
from cf_local.evaluation.tasks.task import Item, Task

NAMES = (
    "builtin, gsm8k:FILE, mgsm:LANGUAGE[:FILE], references:FILE, a .jsonl, .csv or .tsv file, or "
    "MODULE:CLASS"
)
_N_PROBLEMS = 200


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options of tasks; None is a task's own default.

    ``n_items`` and ``seed`` draw the built-in problems; ``n_examples`` and ``raw`` are for prompts
    with worked examples; ``offline`` sends nothing.
    """

    metric: str | None = None
    n_examples: int | None = None
    raw: bool = False
    n_items: int | None = None
    seed: int | None = None
    offline: bool = False


def open_task(name: str, options: TaskOptions | None = None) -> Task:
    """The task of that name. Raises InputError if there is none, or an option does not apply."""
    options = options or TaskOptions()
    kind, _, rest = name.partition(":")
    if kind == "gsm8k":
        return _gsm8k(rest, options)
    if kind in mgsm.KINDS:
        return _mgsm(kind, rest, options)
    if options.n_examples is not None or options.raw:
        raise InputError(f"--examples and --raw-prompts are for gsm8k and mgsm, not for {name}.")
    if kind == references.KIND:
        return _references(rest, options)
    if name.endswith(SUFFIXES):
        return QuestionFile(Path(name).expanduser(), options.metric)
    if options.metric is not None:
        raise InputError(f"--metric does not apply to {name}, which has its own.")
    if name == "builtin":
        n_items = _N_PROBLEMS if options.n_items is None else options.n_items
        return WordProblems(n_items, options.seed or 0)
    if rest:
        return load_task(name)
    raise InputError(f"Unknown task {name!r}. Name one of: {NAMES}.")


def chosen(items: Sequence[Item], limit: int | None, seed: int | None) -> list[Item]:
    """At most ``limit`` items: the first ones, or with a seed a random draw, in their order."""
    if limit is None or limit >= len(items):
        return list(items)
    if seed is None:
        return list(items[:limit])
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), limit))]


def _gsm8k(file: str, options: TaskOptions) -> Task:
    if not file:
        raise InputError(gsm8k.NO_FILE)
    return Gsm8k(
        Path(file).expanduser(),
        options.metric or "flexible",
        n_examples=_n_examples(options, gsm8k.N_EXAMPLES),
        raw=options.raw,
    )


def _mgsm(kind: str, rest: str, options: TaskOptions) -> Task:
    language, _, file = rest.partition(":")
    path = Path(file).expanduser() if file else mgsm.fetch(language, offline=options.offline)
    return Mgsm(
        kind,
        language,
        path,
        options.metric or "flexible",
        n_examples=_n_examples(options, mgsm.N_EXAMPLES),
        raw=options.raw,
    )


def _references(file: str, options: TaskOptions) -> Task:
    if not file:
        raise InputError(references.NO_FILE)
    if options.metric is not None:
        raise InputError("--metric does not apply to references: their words are compared.")
    return ReferenceFile(Path(file).expanduser())


def _n_examples(options: TaskOptions, most: int) -> int:
    n_examples = most if options.n_examples is None else options.n_examples
    if not 0 <= n_examples <= most:
        raise InputError(f"Choose 0 to {most} worked examples, not {n_examples}.")
    return n_examples
