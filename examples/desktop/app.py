"""A desktop window to chat with several local models that answer as one.

    python examples/desktop/app.py
    python examples/desktop/app.py --model one.gguf --model two.gguf
    python examples/desktop/app.py --ask "What is 7 times 8?"      without a window

It needs only cf-local and Python's own Tk. README.md says how to make a program of it that runs
without Python.
"""

import argparse
import io
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

import cf_local


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the window, or answer one question on stdout; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fusion", metavar="NAME", help="a fusion of models.toml")
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        action="append",
        default=[],
        help="instead; repeat for more",
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="default 0: greedy")
    parser.add_argument("--dark", action="store_true", help="start with dark colours")
    parser.add_argument("--ask", metavar="QUESTION", help="answer on stdout, without a window")
    parser.add_argument("--version", action="version", version=f"cf-local {cf_local.__version__}")
    given = parser.parse_args(arguments)
    sampling = cf_local.Sampling(temperature=given.temperature)
    try:
        cf_local.Settings(sampling=sampling)  # reports a wrong temperature before loading
        if given.ask is not None:
            return answer(given.ask, given.fusion, given.model, sampling)
        return show(given.fusion, given.model, sampling, is_dark=given.dark)
    except cf_local.CfLocalError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code


def answer(
    question: str, fusion: str | None, models: Sequence[str], sampling: cf_local.Sampling
) -> int:
    """Print the answer to one question."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a Windows console may default to cp1252
        sys.stdout.reconfigure(encoding="utf-8")
    with cf_local.load(fusion, models=models) as loaded:
        settings = replace(loaded.settings, sampling=sampling, all_scores=False)
        print(loaded.answer(cf_local.chat(question), settings).text)
    return 0


def show(
    fusion: str | None, models: Sequence[str], sampling: cf_local.Sampling, *, is_dark: bool
) -> int:
    """Open the window and load; returns when the window is closed."""
    import tkinter as tk  # imported here: --ask works without Tk

    from theme import prepare_display
    from window import Window
    from worker import Worker

    prepare_display()
    try:
        root = tk.Tk(className="cf-local")
    except tk.TclError as error:
        print(f"Error: no window can be opened: {error}.", file=sys.stderr)
        return 1
    window = Window(root, Worker(), sampling=sampling, is_dark=is_dark)
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C in the terminal closes the window, too
        signal.signal(number, lambda _number, _frame: window.close())
    window.load(fusion, models)
    root.mainloop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
