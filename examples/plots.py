"""A notebook of fused answers: who won, where the models agreed, how far apart they were.

Run it cell by cell in an editor that knows ``# %%``, or whole: python examples/plots.py. It needs
matplotlib (pip install matplotlib) and writes wins.png, agreement.png and disagreement.png.
"""

# %% What to ask, and whom
import sys
from pathlib import Path

import cf_local
from cf_local import trace
from cf_local.trace import heat

try:
    import matplotlib as mpl
except ImportError:
    sys.exit("This example draws with matplotlib, which is not installed: pip install matplotlib")

mpl.use("agg")  # into files; leave this line out to see the plots in a notebook
from matplotlib import pyplot as plt

MODELS: list[str] = []  # paths of .gguf files, or names of models.toml; empty: the default fusion
QUESTIONS = (
    "Tom has 23 apples and buys 45 more. How many apples does he have now?",
    "Anna has 6 bags with 14 shells each. She gives away 25 shells. How many shells are left?",
    "Leo made 160 dolls. He gives Zoe 20 percent of them. How many dolls does she get?",
)
COLOURS = ("#0072b2", "#c75000", "#00805d", "#b0558a", "#8a6a00", "#5b6770")

# %% One answer each, with its trace. With all_scores nobody is left out, so agreement is agreement.
traces = []
with cf_local.load(models=MODELS) as fusion:
    settings = fusion.settings.with_options({"all_scores": True, "max_tokens": 200})
    for question in QUESTIONS:
        prompt, date = cf_local.chat(question), trace.now()
        steps = []
        for event in fusion.stream(prompt, settings):
            if isinstance(event, cf_local.Step):
                steps.append(event)
            else:
                traces.append(trace.record(fusion, prompt, settings, steps, event, date=date))
                print(f"> {question}\n{event.text}\n")

names = traces[0].names
summaries = [trace.summarize(one) for one in traces]

# %% Who won how many of the words that were disputed. Several models can win a word together.
figure, axes = plt.subplots(figsize=(7, 0.6 + 0.5 * len(names)), layout="constrained")
wins = [sum(summary.wins[name] for summary in summaries) for name in names]
n_disputed = sum(summary.n_disputed for summary in summaries)
axes.bar_label(axes.barh(names, wins, color=COLOURS[: len(names)]), padding=3)
axes.invert_yaxis()
axes.set_xlabel(f"disputed words won, of {n_disputed}")
figure.savefig("wins.png", dpi=150)

# %% In which share of the words all agreed, for each question
figure, axes = plt.subplots(figsize=(7, 0.6 + 0.5 * len(traces)), layout="constrained")
labels = [f"question {number}" for number in range(1, len(traces) + 1)]
shares = [summary.n_agreed / summary.n_segments for summary in summaries]
axes.bar_label(axes.barh(labels, shares, color="#5b6770"), fmt="{:.0%}", padding=3)
axes.invert_yaxis()
axes.set_xlim(0, 1.1)
axes.set_xlabel("share of words that all proposed")
figure.savefig("agreement.png", dpi=150)

# %% How disputed each word of the first answer was, in the colour of its winner
pieces = trace.pieces(traces[0].steps)
figure, axes = plt.subplots(figsize=(max(7, 0.22 * len(pieces)), 3), layout="constrained")
heights = [heat.disagreement(piece.step, traces[0]) for piece in pieces]
colours = [COLOURS[names.index(piece.step.winners[0]) % len(COLOURS)] for piece in pieces]
axes.bar(range(len(pieces)), heights, color=colours)
words = [trace.in_one_line(piece.step.text.strip(), 12) for piece in pieces]
axes.set_xticks(range(len(pieces)), words, rotation=90)
axes.set_ylim(0, 1)
axes.set_ylabel("wanted something else")
figure.savefig("disagreement.png", dpi=150)
print("Written:", *sorted(path.name for path in Path().glob("*.png")))
