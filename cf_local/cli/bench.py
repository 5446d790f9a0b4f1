"""``cf-local bench``: compares the speed of a fusion with that of each of its sources alone."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import click

from cf_local import files
from cf_local.builtin import problems
from cf_local.builtin.problems import generate
from cf_local.cli import columns
from cf_local.cli.interrupt import Interrupt
from cf_local.cli.loading import loaded
from cf_local.cli.options import model_options, ray_options
from cf_local.cli.text_input import read_text
from cf_local.errors import InputError
from cf_local.evaluation.bench import (
    EVERYDAY,
    Case,
    Timing,
    differences,
    fused_cases,
    ratio,
    run,
    slowest,
)
from cf_local.runtime.fusion import Fusion
from cf_local.types import Chat
from cf_local.types import chat as chat_prompt

_BUILTIN = Path(problems.__file__).parent


@click.command()
@click.option("--prompts", metavar="FILE", help="File with one prompt per line ('-' for stdin).")
@click.option(
    "--n",
    "n_prompts",
    type=click.IntRange(2),
    default=40,
    help="Use at most this many prompts [40].",
)
@click.option(
    "--max-tokens", type=click.IntRange(1), default=256, help="Length limit of each answer [256]."
)
@click.option(
    "--tight",
    type=click.FloatRange(0),
    default=0.1,
    help="Stop early once the 95% interval of cool's ratio is this narrow [0.1].",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw the ratios as an SVG file.")
@model_options
@ray_options
def bench(
    prompts: str | None,
    n_prompts: int,
    max_tokens: int,
    tight: float,
    as_json: bool,
    picture: str | None,
    **options: Any,
) -> None:
    """Measure bytes of text per second of each way to answer.

    The ways take turns. Each source answers alone through plain llama-cpp-python. Then the fusion
    answers without speculation, with speculation, and in mode cool+r. Without --prompts, the
    built-in models get word problems, other models everyday prompts: short answers, code,
    explanations, translations and stories.
    """
    asked = _prompts(prompts, n_prompts)
    start = time.perf_counter()
    with Interrupt() as interrupt, loaded(interrupt, options) as fusion:
        load_s = time.perf_counter() - start
        asked = asked or _usual_prompts(fusion, n_prompts)
        fused = fused_cases(fusion, max_tokens)
        fused[-1].answer(
            asked[0]
        )  # cool+r needs the most memory; measure it before the plain models load
        peak = _peak_memory()
        alone, closers = _alone(fusion, max_tokens)
        cases = [*alone, *fused]
        baseline = cases[0]
        for n_done in run(cases, asked):
            baseline = slowest(alone)
            if sys.stderr.isatty():
                click.echo(f"\r{n_done}/{len(asked)} prompts", err=True, nl=False)
            _, low, high = ratio(cases[-2], baseline)
            if interrupt.is_set() or (n_done >= 10 and high - low < tight):
                break
        for close in closers:
            close()
    report = _report(cases, baseline) | {
        "load_s": load_s,
        "peak_memory_bytes": peak,
        "different_texts": differences(fused[0], fused[1]),
    }
    if picture:
        files.write_result(Path(picture), _svg(report))
    click.echo(json.dumps(report, indent=2) if as_json else _table(report))


def _prompts(file: str | None, n_prompts: int) -> list[Chat]:
    """The prompts of a file, or none without a file."""
    if file is None:
        return []
    lines = [line for line in read_text(file).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file} contains no prompts. Write one per line.")
    return [chat_prompt(line) for line in lines][:n_prompts]


def _usual_prompts(fusion: Fusion, n_prompts: int) -> list[Chat]:
    """Prompts that suit the loaded models."""
    if all(Path(source.info.file).parent == _BUILTIN for source in fusion.sources):
        return [chat_prompt(p.question) for p in generate(n_prompts, seed=1, split="test")]
    return [chat_prompt(text) for text in EVERYDAY[:n_prompts]]


def _peak_memory() -> int | None:
    """Peak memory of this process in bytes; None where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _alone(fusion: Fusion, max_tokens: int) -> tuple[list[Case], list[Any]]:
    """Each source alone through plain llama-cpp-python, and the functions that close them."""
    from cf_local.llama.plain import PlainModel

    cases, closers = [], []
    for source in fusion.sources:
        info = source.info
        plain = PlainModel(Path(info.file), n_ctx=info.n_ctx, n_threads=info.n_threads)
        cases.append(_plain_case(info.name, plain, max_tokens, fusion))
        closers.append(plain.close)
    return cases, closers


def _plain_case(name: str, plain: Any, max_tokens: int, fusion: Fusion) -> Case:
    def answer(prompt: Chat) -> Timing:
        # In the fusion's own compute thread: two threads would slow each other down.
        text, first_s, rest_s = fusion.alone(lambda: plain.answer(prompt, max_tokens))
        return Timing(len(text.encode()), first_s, rest_s)

    return Case(f"{name} alone", answer)


def _report(cases: list[Case], baseline: Case) -> dict[str, Any]:
    """All measurements as plain data."""
    return {
        "n_prompts": len(baseline.timings),
        "slowest": baseline.name,
        "cases": [_case(case, baseline) for case in cases],
    }


def _case(case: Case, baseline: Case) -> dict[str, Any]:
    value, low, high = ratio(case, baseline)
    return {
        "name": case.name,
        "bytes_per_s": _number(case.rate),
        "first_s": case.first_s,
        "ratio": _number(value),
        "ratio_95": [_number(low), _number(high)],
        "passes_per_segment": case.passes_per_segment,
        "agreement_segments": case.agreement if case.answers else None,
        "share_outside_decode": case.share_outside,
    }


def _number(value: float) -> float | None:
    """The value, or None for NaN, which JSON cannot express."""
    return None if math.isnan(value) else value


def _table(report: dict[str, Any]) -> str:
    rows = [
        (
            "",
            "bytes/s",
            "first word",
            "ratio (95%)",
            "passes/segment",
            "agreement",
            "outside decode",
        )
    ]
    for case in report["cases"]:
        low, high = case["ratio_95"]
        outside = case["share_outside_decode"]
        rows.append(
            (
                case["name"],
                "-" if case["bytes_per_s"] is None else f"{case['bytes_per_s']:.1f}",
                f"{case['first_s']:.2f} s",
                "-" if case["ratio"] is None else f"{case['ratio']:.2f} ({low:.2f}-{high:.2f})",
                " ".join(f"{n:.2f}" for n in case["passes_per_segment"].values()),
                "" if outside is None else f"{case['agreement_segments']:.1f} segments",
                "" if outside is None else f"{outside:.1%}",
            )
        )
    lines = columns.lines(rows)
    head = f"{report['n_prompts']} prompts, ratios to {report['slowest']}"
    head += f"; the fusion loads in {report['load_s']:.2f} s"
    n_equal = report["n_prompts"] - len(report["different_texts"])
    lines.append(f"texts equal with and without speculation: {n_equal} of {report['n_prompts']}")
    if report["peak_memory_bytes"]:
        lines.append(f"peak memory of the fusion: {report['peak_memory_bytes'] / 1e6:.0f} MB")
    return "\n".join([head, *lines])


def _svg(report: dict[str, Any]) -> str:
    """An SVG with a bar per case: its rate divided by that of the slowest source alone."""
    bars = []
    for index, case in enumerate(report["cases"]):
        y, width = 20 + 34 * index, 200 * (case["ratio"] or 0)
        bars.append(
            f'<text x="10" y="{y + 16}">{case["name"]}</text>'
            f'<rect x="190" y="{y}" width="{width:.0f}" height="22" rx="3" fill="#4a7fb5"/>'
            f'<text x="{196 + width:.0f}" y="{y + 16}">{case["ratio"] or 0:.2f}</text>'
        )
    height, widest = 40 + 34 * len(bars), max(case["ratio"] or 0 for case in report["cases"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{260 + 200 * widest:.0f}" '
        f'height="{height}" font-family="sans-serif" font-size="13">'
        f'<line x1="390" x2="390" y1="8" y2="{height - 12}" stroke="#888" stroke-dasharray="3"/>'
        f"{''.join(bars)}</svg>\n"
    )
