from __future__ import annotations
import random
import pytest
from cli import test_chat_screen as T
from cli.test_chat_screen import start  # noqa
pytestmark = pytest.mark.model

@pytest.mark.parametrize("seed", range(2, 22))
def test_it(start, seed):
    T.interrupted_answers(start(), random.Random(seed), 4)
