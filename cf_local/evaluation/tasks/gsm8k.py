"""GSM8K (Cobbe et al. 2021) with the eight worked examples of Wei et al. 2022.

Prompt, stop strings and judgement are those of lm-evaluation-harness' ``gsm8k_cot``; the metric
``hashes`` judges as its ``gsm8k`` does. The Hugging Face repository has only Parquet, which
cf-local does not read; it reads the authors' JSON lines.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from cf_local.errors import InputError
from cf_local.evaluation.extraction import ENGLISH, FLEXIBLE, GSM8K, HASHES, Extraction
from cf_local.evaluation.tasks.task import Example, Item, Task, prompt_with
from cf_local.evaluation.tasks.textfile import json_objects

METRICS: Mapping[str, Extraction] = {"flexible": FLEXIBLE, "strict": ENGLISH, "hashes": HASHES}
"""``flexible``: the last number; ``strict``: after "The answer is"; ``hashes``: after ####."""

N_EXAMPLES = 8

NO_FILE = (
    "gsm8k needs a file: on the hub openai/gsm8k has only Parquet, which cf-local does not read. "
    "Fetch grade_school_math/data/test.jsonl of github.com/openai/grade-school-math, or convert "
    "main/test-00000-of-00001.parquet (pandas: read_parquet(...).to_json('test.jsonl', "
    "orient='records', lines=True)); then run `cf-local eval gsm8k:test.jsonl`."
)


class Gsm8k(Task):
    """The questions of a JSONL file with ``question`` and ``answer`` ("... #### 42").

    ``n_examples`` of the eight examples come first, as turns or (``raw``) as one text without a
    template.
    """

    stop = ("Q:", "</s>", "<|im_end|>")
    max_tokens = 512

    def __init__(
        self,
        path: Path,
        metric: str = "flexible",
        *,
        n_examples: int = N_EXAMPLES,
        raw: bool = False,
    ) -> None:
        if metric not in METRICS:
            raise InputError(f"gsm8k has no metric {metric!r}; choose one of {', '.join(METRICS)}.")
        if path.suffix == ".parquet":
            raise InputError(f"{path}: {NO_FILE}")
        self.name = f"gsm8k ({metric}, {n_examples} examples{', raw' if raw else ''})"
        self._extract = METRICS[metric]
        examples = worked_examples()[:n_examples]
        self._items = [
            _item(where, record, str(number), examples, raw=raw)
            for number, (where, record) in enumerate(json_objects(path), start=1)
        ]

    def items(self) -> Sequence[Item]:
        """The questions in the order of the file."""
        return self._items

    def is_right(self, item: Item, text: str) -> bool:
        """Whether the extracted number is the answer, as the harness compares them."""
        return GSM8K(self._extract(text), item.accepted[0])


def worked_examples() -> list[Example]:
    """The eight examples of Wei et al. (2022, table 20), as the harness has them."""
    text = files(__package__).joinpath("gsm8k_cot.json").read_text(encoding="utf-8")
    return [Example(_asked(one["question"]), one["target"]) for one in json.loads(text)]


def _asked(question: str) -> str:
    return f"Q: {question}\nA:"


def _item(
    where: str, record: dict[str, object], name: str, examples: list[Example], *, raw: bool
) -> Item:
    question, solution = record.get("question"), record.get("answer")
    if not isinstance(question, str) or not isinstance(solution, str):
        raise InputError(f"{where}: question and answer are required, both as text.")
    answer = solution.split("####")[-1].strip()
    if "####" not in solution or not answer:
        raise InputError(f"{where}: the answer must end with #### and a number.")
    return Item(name, prompt_with(examples, _asked(question), raw=raw), answer)
