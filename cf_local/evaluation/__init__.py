"""Evaluation on a task: how often each way to answer is right, and whether that is beyond chance.

::

    task = open_task("questions.jsonl")
    items = checked_items(task)
    variants = default_variants(settings_for(task, fusion.settings), names)
    results = list(run(fusion, task, items, variants))
    summary = summarize(task.name, variants, results)

Along reference texts: ``walks`` and ``summarize_words``.

A task of your own derives from ``Task`` (see docs/evaluation.md).
"""

from cf_local.evaluation.runner import Result, Store, run
from cf_local.evaluation.store import FolderStore, WalkFolder, record_of, record_of_walks
from cf_local.evaluation.summary import Summary, summarize
from cf_local.evaluation.tasks.references import ReferenceFile
from cf_local.evaluation.tasks.task import (
    Item,
    Task,
    checked_items,
    settings_for,
    with_system,
)
from cf_local.evaluation.tasks.task_names import TaskOptions, chosen, open_task
from cf_local.evaluation.variants import (
    Variant,
    alone,
    default_variants,
    distinct,
    parse_variant,
)
from cf_local.evaluation.walk import Walk, WalkStore, walk_settings, walks
from cf_local.evaluation.word_summary import WordSummary, summarize_words

__all__ = [
    "FolderStore",
    "Item",
    "ReferenceFile",
    "Result",
    "Store",
    "Summary",
    "Task",
    "TaskOptions",
    "Variant",
    "Walk",
    "WalkFolder",
    "WalkStore",
    "WordSummary",
    "alone",
    "checked_items",
    "chosen",
    "default_variants",
    "distinct",
    "open_task",
    "parse_variant",
    "record_of",
    "record_of_walks",
    "run",
    "settings_for",
    "summarize",
    "summarize_words",
    "walk_settings",
    "walks",
    "with_system",
]
