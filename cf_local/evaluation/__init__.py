"""Evaluation on a task: how often each way to answer is right, and whether that is beyond chance.

::

    task = open_task("questions.jsonl")
    items = checked_items(task)
    variants = default_variants(settings_for(task, fusion.settings), names)
    results = list(run(fusion, task, items, variants))
    summary = summarize(task.name, variants, results)

A task of your own derives from ``Task`` (see docs/evaluation.md).
"""

from cf_local.evaluation.runner import Result, Store, run
from cf_local.evaluation.store import FolderStore, record_of
from cf_local.evaluation.summary import Summary, summarize
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

__all__ = [
    "FolderStore",
    "Item",
    "Result",
    "Store",
    "Summary",
    "Task",
    "TaskOptions",
    "Variant",
    "alone",
    "checked_items",
    "chosen",
    "default_variants",
    "distinct",
    "open_task",
    "parse_variant",
    "record_of",
    "run",
    "settings_for",
    "summarize",
    "with_system",
]
