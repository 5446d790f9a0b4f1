"""Bytes that are no text: a bad source writes them, and every other one must read them."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

BUILTIN = Path(__file__).parents[2] / "cf_local" / "builtin"
CODE = """
import sys
from pathlib import Path
from cf_local.llama.vocabulary import open_vocabulary
vocabulary = open_vocabulary(Path(sys.argv[1]))
beyond = (b"a \\xf5\\x80\\x80\\x80 b", b"\\xf4\\x90\\x80\\x80")
for text in (*beyond, b"\\xf7", b"\\xff\\xed\\xa0\\x80"):
    assert vocabulary.decode(vocabulary.encode(text)) == text, text
"""


@pytest.mark.parametrize("name", ["ash", "birch", "cedar"])
def test_characters_beyond_unicode_do_not_end_the_process(name: str) -> None:
    # In a process of its own: the C++ exception that this is about cannot be caught.
    command = [sys.executable, "-c", CODE, str(BUILTIN / f"{name}.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
