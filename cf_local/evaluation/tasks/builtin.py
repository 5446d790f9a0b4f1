"""The built-in word problems as a task: new ones, never those the built-in models learnt from."""

from collections.abc import Sequence

from cf_local.builtin.problems import Problem, final_number, generate
from cf_local.evaluation.tasks.task import Item, Task
from cf_local.types import chat


class WordProblems(Task):
    """``n`` problems of the test split, drawn by ``seed``, grouped by the skill they need."""

    stop = ()
    max_tokens = 256

    def __init__(self, n: int = 200, seed: int = 0) -> None:
        self.name = "builtin"
        self._n, self._seed = n, seed

    def items(self) -> Sequence[Item]:
        """The problems."""
        problems = generate(self._n, seed=self._seed, split="test")
        return [_item(f"{self._seed}-{i}", problem) for i, problem in enumerate(problems, start=1)]

    def is_right(self, item: Item, text: str) -> bool:
        """Whether the last number in the text is the right one."""
        return final_number(text) == int(item.accepted[0])


def _item(name: str, problem: Problem) -> Item:
    group = problem.skills[0] if len(problem.skills) == 1 else "two skills"
    return Item(name, chat(problem.question), str(problem.result), group)
