"""Figures about the page: 200 messages, and an answer of 5,000 words while it streams.

    python scripts/page_figures.py [--words 5000] [--pause 20]

In a headless Chromium, with ten words every PAUSE milliseconds: tasks above 50 ms, which hold the
page up, by the clock and (for a busy machine) in time of the processor, and what axe finds.
Needs the extra `dev`, and Chromium.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from browser import Page, browser  # noqa: E402  # needs the path above
from server import test_web_access as access  # noqa: E402
from server import test_web_page as checks  # noqa: E402
from serving import serving, slow  # noqa: E402

SECTION = """## Part {n}

A paragraph with **bold words**, *emphasis*, `code` and a formula, $x_{n}^2 + y^2 = z^2$, which goes
on for some lines, as paragraphs of long answers do, until its thought has come to an end. Then
there is another sentence, and another one, so that lines have to be broken again and again.

- the first item, with a [link](https://example.org/{n})
- the second item, which is **longer** than the first one and has more words
- the third item

| name | value | remark |
| --- | --: | --- |
| one | {n} | some words in a cell |
| two | 22 | more words in a cell |

```python
def part_{n}(values: list[int]) -> int:
    total = 0  # of all values
    for value in values:
        total += value
    return total
```

"""
TASKS = """window.tasks = [];
new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => tasks.push(duration)))
    .observe({ type: "longtask" });"""
LONG_MS = 50.0


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--words", type=int, default=5000)
    parser.add_argument("--pause", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, browser(Path(name) / "profile") as page:
        page.call("Page.setBypassCSP", enabled=True)  # axe adds styles
        with serving(slow()) as served:
            checks.fresh(page, served)
            checks.import_conversation(page, checks.long_talk(), Path(name) / "long.json")
            page.wait("document.querySelectorAll('.answer').length === 100", 120)
            page.eval(checks.stream(words(given.words), given.pause))
            page.eval(TASKS)
            with traced(page) as tasks_ms:
                checks.ask(page, "Go on.", waits=False)
                page.wait(checks.ANSWERED, 600)
                seen_ms = page.eval("tasks")
            print(f"{given.words} words after 200 messages; load {os.getloadavg()[0]:.1f}")
            report("by the clock (PerformanceObserver)", seen_ms)
            report("in time of the processor (trace)", tasks_ms)
            page.eval(access.AXE.read_text("utf-8"))
            print("axe:", access.findings(page) or "no serious findings")
            print("complaints:", page.problems or "none")


def report(how: str, tasks_ms: list[float]) -> None:
    """Print how many tasks are long, and the longest."""
    n_long = sum(task_ms > LONG_MS for task_ms in tasks_ms)
    print(
        f"{how}: {n_long} tasks above {LONG_MS:.0f} ms, longest {max(tasks_ms, default=0):.0f} ms"
    )


@contextmanager
def traced(page: Page) -> Iterator[list[float]]:
    """Afterwards, the milliseconds of the processor that each task of the page took."""
    tasks_ms: list[float] = []
    page.call(
        "Tracing.start",
        categories="toplevel,disabled-by-default-devtools.timeline",
        transferMode="ReturnAsStream",
    )
    yield tasks_ms
    page.call("Tracing.end")
    while "Tracing.tracingComplete" not in page.events:
        page.eval("1")
    handle = page.events["Tracing.tracingComplete"]["stream"]
    text, is_over = "", False
    while not is_over:
        part = page.call("IO.read", handle=handle)
        text, is_over = text + part["data"], part["eof"]
    events = json.loads(text)["traceEvents"]
    mains = {
        (e["pid"], e["tid"]) for e in events if e.get("args", {}).get("name") == "CrRendererMain"
    }
    tasks_ms += [
        e["tdur"] / 1000
        for e in events
        if (e["pid"], e["tid"]) in mains and e["name"].endswith("RunTask") and "tdur" in e
    ]


def words(count: int) -> list[str]:
    """An answer with everything that Markdown has, as words with the space before each."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        text = SECTION.replace("{n}", str(number))
        found += [piece.replace("\0", " ") for piece in text.replace(" ", " \0").split(" ")]
    return found[:count]


if __name__ == "__main__":
    main()
