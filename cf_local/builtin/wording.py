"""The words of the built-in word problems: people, things, units, and the sentences around them.

``frames.txt`` holds the sentences and explains its format. Nothing here calculates: ``problems.py``
inserts the numbers and chains two frames.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Frame:
    """One situation: its facts, ways to ask about it, and the sentence of the answer.

    ``kind`` says what an opening leaves for a second step to start from ("" for nothing): things
    that somebody owns (own, part), a share of each box or child (each), an amount in a large unit
    (big) or in a small one (small), or a part that changes its whole (rest, price, rise).
    """

    kind: str
    text: str
    asks: tuple[str, ...]
    say: str
    unit: str = ""
    after: tuple[str, ...] = ()  # the kinds a closing may follow
    on_whole: bool = False  # the second step takes the first number and the first result


def _words(text: str) -> list[str]:
    return text.split()


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(one, many) for one, many in (pair.split("/") for pair in text.split())]


_HE = _words(
    "Tom Ben Sam Leo Max Omar Ivan Noah Luis Raj Jack Paul Adam Hugo Finn Carl Eric Ali David "
    "Peter James John Mike Mark Daniel Alex"
)
_SHE = _words(
    "Anna Mia Mary Emma Lily Sara Nina Zoe Ella Lucy Maya Ruth Kate Jane Alice Julia Laura Rosa "
    "Eva Priya Amy Grace Chloe"
)
_ROLES = tuple(
    f"the {role}" for role in _words("baker farmer teacher florist coach librarian cook artist")
)
_THINGS = _words(
    "apple orange pear egg cookie muffin candle pencil pen book card marble sticker stamp coin "
    "button bead shell ball toy balloon flower rose plant seed ticket photo poster brick bottle "
    "cup plate lemon banana melon carrot nut doll crayon notebook puzzle ribbon stone block chair "
    "cake hat shirt"
)
_COLORS = ("red", "blue", "green", "yellow", "white", "black", "brown", "pink")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_BOXES = _pairs(
    "box/boxes bag/bags basket/baskets jar/jars tray/trays crate/crates shelf/shelves pack/packs "
    "carton/cartons row/rows drawer/drawers"
)
_KIDS = _pairs(
    "friend/friends child/children student/students cousin/cousins player/players worker/workers "
    "neighbor/neighbors girl/girls boy/boys"
)
_UNITS = {  # large unit, small unit, how many make a large one; listed twice: drawn more often
    "time": (
        ("weeks", "days", 7),
        ("weeks", "days", 7),
        ("hours", "minutes", 60),
        ("hours", "minutes", 60),
        ("minutes", "seconds", 60),
        ("days", "hours", 24),
        ("years", "months", 12),
    ),
    "length": (
        ("feet", "inches", 12),
        ("yards", "feet", 3),
        ("meters", "centimeters", 100),
        ("centimeters", "millimeters", 10),
    ),
    "coin": (("dimes", "cents", 10), ("nickels", "cents", 5), ("quarters", "cents", 25)),
}


def unit_limit(factor: int) -> int:
    """The largest amount that the problems convert in a unit of ``factor`` smaller ones."""
    if factor in (24, 25, 100):
        return 9
    return {12: 40, 60: 16}.get(factor, 99)


def cast(rng: random.Random, frame: Frame) -> dict[str, str]:
    """Choose who and what a problem is about: the words for the braces in the frames."""
    pool = [(name, "he", "him") for name in _HE] + [(name, "she", "her") for name in _SHE]
    (who, he, him), (friend, _, _), (other, _, _) = rng.sample(pool, 3)
    if rng.random() < 0.15:
        who = rng.choice(_ROLES)
    thing, item = rng.sample(_THINGS, 2)
    words = {"who": who, "he": he, "him": him, "friend": friend, "other": other}
    words |= {"thing": thing, "things": f"{thing}s", "item": item, "smalls": "", "factor": "12"}
    words["color"], words["color2"] = rng.sample(_COLORS, 2)
    words["day"], words["day2"] = rng.sample(_DAYS, 2)
    (box, bin_), (kid, pal) = rng.sample(_BOXES, 2), rng.sample(_KIDS, 2)
    slot = kid if "{kid" in frame.text else box
    for role, (one, many) in {
        "box": box,
        "bin": bin_,
        "kid": kid,
        "pal": pal,
        "slot": slot,
    }.items():
        words |= {role: one, _plural(role): many}
    return words | _unit(rng, frame.unit)


def _plural(role: str) -> str:
    return "boxes" if role == "box" else f"{role}s"


def _unit(rng: random.Random, unit: str) -> dict[str, str]:
    if unit in ("", "dozen"):
        return {}
    kind = unit if unit != "any" else rng.choice(("time", "time", "length", "coin"))
    big, small, factor = rng.choice(_UNITS[kind])
    return {"things": big, "smalls": small, "factor": str(factor)}


def _read_frames(text: str) -> tuple[dict[str, tuple[Frame, ...]], dict[str, tuple[Frame, ...]]]:
    """Parse ``frames.txt`` into first and second steps by skill."""
    asks: dict[str, list[str]] = {}
    steps: dict[str, dict[str, tuple[Frame, ...]]] = {"first": {}, "then": {}}
    for section in text.split("\n== ")[1:]:
        heading, _, body = section.partition("\n")
        kind, _, name = heading.partition(" ")
        if kind == "ask":
            asks[name] = body.split("\n")[: body.rstrip().count("\n") + 1]
        else:
            groups = body.removeprefix("[").split("\n[")
            steps[kind][name] = tuple(f for group in groups for f in _read_group(group, asks))
    return steps["first"], steps["then"]


def _read_group(group: str, asks: dict[str, list[str]]) -> list[Frame]:
    head, *lines = (line for line in group.split("\n") if line)
    tag, _, say = head.partition("] ")
    marks = tag.split()
    questions: list[str] = []
    for line in lines:
        if line.startswith("? "):
            ask = line.removeprefix("? ")
            questions += asks.get(ask, ["" if ask == "-" else ask])
    after = tuple(mark for mark in marks[1:] if mark != "whole") if marks[0] == "after" else ()
    kind, unit = ("", "") if after else (marks[0].strip("-"), "".join(marks[1:]))
    return [
        Frame(kind, line.strip("-"), tuple(questions), say, unit, after, "whole" in marks)
        for line in lines
        if not line.startswith("? ")
    ]


OPENINGS, CLOSINGS = _read_frames(
    Path(__file__).with_name("frames.txt").read_text(encoding="utf-8")
)

_ABILITY = (
    "I solve short word problems with whole numbers: adding, subtracting, multiplying, dividing, "
    "units and percents."
)
SMALL_TALK = (
    (
        (
            "Hello",
            "Hello!",
            "Hi",
            "Hi!",
            "Hi there!",
            "Hey",
            "Hey there",
            "Good morning",
            "Good morning!",
            "Good evening!",
            "Good afternoon",
            "Good day",
            "Greetings",
            "Greetings!",
            "Howdy",
            "Hello there",
            "Hello again!",
            "Hello, I am Tom.",
            "Hi, I'm Anna.",
            "Hello, my name is Mia.",
            "Nice to meet you.",
            "Pleased to meet you!",
            "Say hello.",
            "Good to see you!",
            "Welcome!",
            "Bonjour",
            "Hola",
            "Hallo",
            "Ciao!",
        ),
        "Hello! Give me a short word problem and I will solve it.",
    ),
    (
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Are you a person?",
            "Are you a robot?",
            "Which model are you?",
            "Introduce yourself.",
        ),
        "I am a small demonstration model that solves short word problems.",
    ),
    (
        (
            "What can you do?",
            "How can you help me?",
            "Help",
            "help",
            "What do you know?",
            "What should I ask you?",
            "Can you help me?",
        ),
        _ABILITY,
    ),
    (
        (
            "Thanks",
            "Thanks!",
            "Thank you",
            "Thank you!",
            "Thank you very much.",
            "Great, thanks!",
            "Well done!",
            "Good job!",
        ),
        "You are welcome! Give me another problem if you like.",
    ),
    (
        (
            "Bye",
            "Bye!",
            "Goodbye",
            "Goodbye!",
            "See you later!",
            "See you.",
            "Good night!",
        ),
        "Goodbye!",
    ),
    (
        (
            "How are you?",
            "How are you today?",
            "How is it going?",
            "What's up?",
        ),
        "I am well, thank you. Give me a short word problem and I will solve it.",
    ),
    (
        (
            "Write a poem.",
            "What is the capital of France?",
            "Tell me a story.",
            "Tell me a joke.",
            "Who is the president?",
            "Write a program.",
            "What is the weather like?",
            "Translate this text.",
            "Explain gravity.",
            "What is the meaning of life?",
            "Write an email to my boss.",
            "Give me a recipe.",
            "Yes",
            "No",
            "OK",
            "Test",
            "Sure",
            "Maybe",
            "Really?",
            "Why?",
            "What?",
            "Who was Napoleon?",
            "Where is Berlin?",
        ),
        "I am a small demonstration model and only solve short word problems.",
    ),
)
