"""OpenAI's npm client against a real server.

`scripts/dev.py setup` installs the package; TEST_NPM_FOLDER names another folder with node_modules.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import QUESTION, Served

import cf_local

INSTALLED = Path(__file__).parents[2] / ".cache" / "npm"
FOLDER = Path(os.environ.get("TEST_NPM_FOLDER", INSTALLED))
NODE = shutil.which("node")
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(NODE is None, reason="needs node"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules" / "openai").is_dir(),
        reason="needs the npm package openai: `python scripts/dev.py setup`, where npm is",
    ),
]


def test_the_npm_client(served: Served) -> None:
    script = Path(__file__).with_name("openai_npm.mjs")
    done = subprocess.run(
        [str(NODE), str(script), served.url, str(FOLDER)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with cf_local.load() as fusion:
        expected = fusion.answer(cf_local.chat(QUESTION)).text
    assert found["text"] == found["streamed"] == found["answer"]["text"] == expected
    assert found["finish"] == "stop"
    assert found["usage"]["total_tokens"] > 20
    assert "builtin" in found["models"]
    assert found["before_abort"] == 3
    assert isinstance(found["formed"]["ok"], bool)
    assert found["completions"] == 2
    assert found["error"] == [True, 404, "model_not_found"]
