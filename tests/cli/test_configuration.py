"""`config`, `models add/remove`, `show` and `doctor` as commands of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[bytes]]
ASH = Path(__file__).parents[2] / "cf_local" / "builtin" / "ash.gguf"


def settings(run: Run, *arguments: str, env: dict[str, str] | None = None) -> dict[Any, Any]:
    done = run("config", "show", *arguments, "--json", env=env)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["settings"]
    return {(row["section"], row["key"]): (row["value"], row["origin"]) for row in rows}


def test_a_flag_beats_a_variable_beats_the_project_beats_the_user_beats_what_is_built_in(
    run: Run, work_folder: Path
) -> None:
    own = Path(run("config", "path").stdout.decode().strip())
    own.parent.mkdir(parents=True)
    own.write_text('[fusions.builtin]\nmode = "rerank"\nscore = "perplexity"\n')
    project = work_folder / "models.toml"
    project.write_text('[fusions.builtin]\nmode = "cool+r"\n[sources.ash]\ncontext = 64\n')
    env = {"CF_LOCAL_CONTEXT": "99", "CF_LOCAL_SEGMENTS": "shortest"}

    found = settings(run, "--context", "128", env=env)

    section = "fusion builtin"
    assert found[section, "mode"] == ("cool+r", f"{project}:2")
    assert found[section, "score"] == ("perplexity", f"{own}:3")
    assert found[section, "segments"] == ("shortest", "CF_LOCAL_SEGMENTS")
    assert found[section, "speculation"] == (True, "built in")
    assert found["source ash", "context"] == (128, "--context")
    assert settings(run, env=env)["source ash", "context"] == (99, "CF_LOCAL_CONTEXT")
    assert settings(run)["source ash", "context"] == (64, f"{project}:4")
    assert settings(run)["source birch", "context"] == (None, "built in")
    text = run("config", "show", env=env).stdout.decode()
    assert ["segments", "shortest", "CF_LOCAL_SEGMENTS"] in map(str.split, text.splitlines())
    assert "\x1b" not in text


def test_the_default_is_chosen_by_command(run: Run, work_folder: Path) -> None:
    own = Path(run("config", "path").stdout.decode().strip())
    own.parent.mkdir(parents=True)
    text = '# mine\n\n[fusions.pair]  # two\nsources = ["ash", "birch"]\n'
    own.write_text(text)
    done = run("models", "default", "pair", "--json")
    assert json.loads(done.stdout) == {"default": "pair", "written_to": str(own)}
    assert own.read_text() == text.replace("\n\n", '\ndefault = "pair"\n\n', 1)
    assert settings(run)["fusion pair", "sources"][0] == ["ash", "birch"]
    assert run("models", "default", "builtin").returncode == 0
    assert own.read_text() == text.replace("\n\n", '\ndefault = "builtin"\n\n', 1)
    unknown = run("models", "default", "pear")
    assert unknown.returncode == 2
    assert b"pair" in unknown.stderr
    (work_folder / "models.toml").write_text('default = "laptop"\n')
    overruled = run("models", "default", "pair")
    assert overruled.returncode == 2
    assert b"models.toml" in overruled.stderr
    assert b"overrides it with 'laptop'" in overruled.stderr


def test_what_ask_would_use_is_shown(run: Run) -> None:
    found = settings(
        run, "--model", "ash", "--model", str(ASH), "--weight", "ash-2=2", "--seed", "7"
    )
    assert found["models", "weights"] == ({"ash-2": 2.0}, "--weight")
    assert found["source ash-2", "file"][0] == str(ASH)
    assert found["models", "seed"] == (7, "--seed")
    assert found["models", "max_tokens"] == (1024, "built in")
    found = settings(run, "laptop", "--only", "gemma-3-4b", env={"HF_HUB_OFFLINE": "1"})
    assert found["fusion laptop", "mode"] == ("single", "--only")
    assert found["this machine", "offline"] == (True, "HF_HUB_OFFLINE")
    assert ("source gemma-3-4b", "repo") in found


def test_a_variable_does_what_the_flag_does_and_a_flag_beats_it(run: Run) -> None:
    question = "What is 7 times 8?"
    by_flag = run("ask", question, "--model", "ash", "--mode", "single", "--json")
    env = {"CF_LOCAL_MODEL": "ash", "CF_LOCAL_MODE": "single", "CF_LOCAL_FUSION": ""}
    by_variable = run("ask", question, "--json", env=env)
    texts = [json.loads(r.stdout.splitlines()[-1])["text"] for r in (by_flag, by_variable)]
    assert texts[0] == texts[1]
    both = run("ask", question, "--model", "ash", env={"CF_LOCAL_FUSION": "laptop"})
    assert both.returncode == 0
    wrong = run("ask", question, env={"CF_LOCAL_CONTEXT": "many"})
    assert wrong.returncode == 2
    assert b"CF_LOCAL_CONTEXT" in wrong.stderr
    assert b"CF_LOCAL_THREADS" in run("ask", "--help-all").stdout


def test_names_that_there_are_not(run: Run) -> None:
    for arguments in (("laptp",), ("--model", "ahs"), ("--weight", "ahs=2")):
        done = run("config", "show", *arguments)
        assert done.returncode == 2
        assert b"Error: " in done.stderr
        assert b"Traceback" not in done.stderr


def test_check(run: Run, work_folder: Path) -> None:
    done = run("config", "check")
    assert done.returncode == 0
    assert b"no mistake found" in done.stdout
    file = work_folder / "new.toml"
    file.write_text('[sources.x]\nfile = "x.gguf"\ncontxt = 5\n')
    done = run("config", "check", file)
    message = f"{file}, line 3: unknown key 'contxt' (did you mean 'context'?)."
    assert (done.returncode, done.stderr.decode()) == (2, f"Error: {message}\n")
    done = run("config", "check", file, "--json")
    assert json.loads(done.stdout) == {"ok": False, "error": message}
    for bad in (work_folder, work_folder / "none.toml"):
        assert b"cannot be read" in run("config", "check", bad).stderr


def test_models_are_added_used_and_removed(run: Run, work_folder: Path) -> None:
    own = Path(json.loads(run("config", "path", "--json").stdout)["path"])
    own.parent.mkdir(parents=True)
    before = "# mine\n\n[fusions.two]  # these\nsources = ['ash', 'birch']\n"
    own.write_text(before)
    added = run("models", "add", "mine", "--path", ASH, "--context", "256", "--json")
    assert json.loads(added.stdout)["values"] == {"file": str(ASH), "context": 256}
    bias = ("--logit-bias", "the dog=-3")
    done = run("models", "add-fusion", "pair", "mine", "birch", "--weight", "mine=2", *bias)
    assert done.returncode == 0, done.stderr
    used = settings(run, "pair", "--logit-bias", "a=1", env={"CF_LOCAL_DRY_MULTIPLIER": "0.8"})
    assert used["fusion pair", "weights"][0] == {"mine": 2.0}
    assert used["fusion pair", "logit_bias"] == ({"a": 1.0}, "--logit-bias")
    assert used["fusion pair", "dry_multiplier"] == (0.8, "CF_LOCAL_DRY_MULTIPLIER")
    assert settings(run, "pair")["fusion pair", "logit_bias"][0] == {"the dog": -3.0}
    answer = run("ask", "What is 7 times 8?", "--fusion", "pair", "--json")
    assert [s["name"] for s in json.loads(answer.stdout.splitlines()[-1])["sources"]] == [
        "mine",
        "birch",
    ]
    refused = run("rm", "mine", "--yes")
    assert refused.returncode == 2
    assert b"used by the fusion 'pair'" in refused.stderr
    assert run("rm", "pair", "--yes").returncode == 0
    assert run("rm", "mine", "--yes").returncode == 0
    assert own.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", "x"), 2),
        (("add", "x", "--path", "none.gguf"), 3),
        (("add", "x", "--path", __file__), 4),
        (("add", "x", "--path", str(ASH), "--repo", "a/b"), 2),
        (("add", "ash", "--path", str(ASH)), 2),
        (("add", "x", "--repo", "a/b", "--file", "f.gguf", "--threads", "0"), 2),
        (("add-fusion", "x", "ahs"), 2),
        (("add-fusion", "x", "ash", "--weight", "birch=1"), 2),
    ],
)
def test_what_is_not_added(run: Run, arguments: tuple[str, ...], code: int) -> None:
    own = Path(run("config", "path").stdout.decode().strip())
    done = run("models", *arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert b"Traceback" not in done.stderr
    assert not own.exists()


def test_show(run: Run) -> None:
    text = run("show", "ash").stdout.decode()
    assert "architecture    llama\n" in text
    assert "22 tensors Q8_0" in text
    data = json.loads(run("show", ASH, "--json").stdout)
    assert (data["n_parameters"], data["n_tokens"], data["cache"]) == (1500480, 896, "attention")
    assert data["can_take_back_a_part"] is True
    assert len(data["sha256"]) == 64
    assert run("show", "ash", "--template").stdout.startswith(b"{{ bos_token }}")


def test_show_what_is_not_here(run: Run, work_folder: Path) -> None:
    done = run("show", "llama-3.2-1b")
    assert done.returncode == 3
    assert b"bartowski/Llama-3.2-1B-Instruct-GGUF" in done.stdout
    assert b"cf-local pull llama-3.2-1b" in done.stderr
    assert json.loads(run("show", "org/repo:Q8_0", "--json").stdout)["path"] is None
    assert run("show", "none.gguf").returncode == 3
    (work_folder / "page.gguf").write_text("<html>")
    assert run("show", "page.gguf").returncode == 4
    text = run("show", "builtin").stdout.decode()
    assert text.startswith("builtin (default): Three tiny models")
    assert "\n    birch  here  1.6 MB  MIT  builtin:birch.gguf\n" in text
    fusion = json.loads(run("show", "builtin", "--json").stdout)
    assert (fusion["name"], fusion["is_default"]) == ("builtin", True)
    assert [source["name"] for source in fusion["sources"]] == ["ash", "birch", "cedar"]


def test_doctor(run: Run, work_folder: Path) -> None:
    done = run("doctor", "--json", env={"HF_TOKEN": "hf_secretsecret"})
    data = json.loads(done.stdout)
    problems = [each for each in data["findings"] if each["level"] == "problem"]
    assert done.returncode == (1 if problems else 0)
    assert data["native"]["is_right"] is True
    assert data["hub"]["has_token"] is True
    assert b"hf_secret" not in done.stdout + done.stderr
    (work_folder / "models.toml").write_text("x = 1\n")
    done = run("doctor", env={"CF_LOCAL_CONTXT": "5"})
    assert done.returncode == 1
    text = done.stdout.decode()
    assert "models.toml, line 1: unknown key 'x'" in text
    unknown = "cf-local does not know the environment variable CF_LOCAL_CONTXT"
    assert f"{unknown} (did you mean 'CF_LOCAL_CONTEXT'?)" in text


BIRCH = ASH.with_name("birch.gguf")


def test_files_are_added_under_their_own_names(run: Run, work_folder: Path) -> None:
    own = Path(run("config", "path").stdout.decode().strip())
    for path, name in ((ASH, "One-1B-Instruct-Q8_0.gguf"), (BIRCH, "Two-1B-it-Q8_0.gguf")):
        shutil.copyfile(path, work_folder / name)
    (work_folder / "Two-1B-Q4_K_M.gguf").write_bytes(BIRCH.read_bytes() + b"0")
    (work_folder / "page.gguf").write_text("<html>")
    files = sorted(path.name for path in work_folder.glob("*.gguf"))
    done = run("models", "add", *files, f"./{files[0]}", "--context", "256", "none.gguf")
    assert done.returncode == 4
    assert b"page.gguf is not a GGUF file" in done.stderr
    assert b"none.gguf does not exist" in done.stderr
    assert b"add-fusion mine one-1b two-1b two-1b-q8_0 --default" in done.stdout
    tables = tomllib.loads(own.read_text())["sources"]
    assert tables == {
        "one-1b": {"file": str(work_folder / files[0]), "context": 256},
        "two-1b": {"file": str(work_folder / "Two-1B-Q4_K_M.gguf"), "context": 256},
        "two-1b-q8_0": {"file": str(work_folder / "Two-1B-it-Q8_0.gguf"), "context": 256},
    }
    text = own.read_text()
    again = run("models", "add", *files[:2], str(ASH))
    assert again.returncode == 0
    assert b"One-1B-Instruct-Q8_0.gguf is already there as one-1b" in again.stdout
    assert b"is already there as ash" in again.stdout
    assert own.read_text() == text
    records = run("models", "add", *files[:1], "--json").stdout.splitlines()
    assert [json.loads(line)["already"] for line in records] == ["one-1b"]


def test_a_name_and_a_file(run: Run, work_folder: Path) -> None:
    own = Path(run("config", "path").stdout.decode().strip())
    assert run("models", "add", "mine", ASH, "--threads", "1").returncode == 0
    assert tomllib.loads(own.read_text())["sources"] == {"mine": {"file": str(ASH), "threads": 1}}
    done = run("models", "add-fusion", "pair", "mine", "birch", "--default")
    assert done.returncode == 0, done.stderr
    assert b"pair is now the default" in done.stdout
    assert tomllib.loads(own.read_text())["default"] == "pair"
    assert run("models", "add", "x", "y").returncode == 2
    assert run("models", "add", "a.gguf", "b.gguf", "--repo", "a/b").returncode == 2
    assert run("models", "add", ASH, "--quant", "Q4_K_M").returncode == 2


def test_one_verb_removes_entries_and_downloads(run: Run, work_folder: Path) -> None:
    own = Path(run("config", "path").stdout.decode().strip())
    assert run("models", "add", "mine", ASH).returncode == 0
    assert run("models", "add", "far", "--repo", "org/repo").returncode == 0
    assert run("models", "add-fusion", "pair", "mine", "far").returncode == 0
    told = json.loads(run("list", "--json").stdout)
    assert {"pair", "builtin"} <= {fusion["name"] for fusion in told["fusions"]}
    assert {"mine", "ash"} <= {name for model in told["models"] for name in model["names"]}
    assert b"pair: no description" in run("list", "--all").stdout
    assert b"pair" in run("list").stdout

    asked = run("rm", "pair")
    assert (asked.returncode, b"Use --yes" in asked.stderr) == (2, True)
    assert b"the fusion pair in" in asked.stderr
    refused = run("rm", "mine", "--yes")
    assert (refused.returncode, b"used by the fusion 'pair'" in refused.stderr) == (2, True)
    done = run("rm", "pair", "mine", "--yes", "--json")
    assert [json.loads(line)["removed"] for line in done.stdout.splitlines()] == ["pair", "mine"]
    assert ASH.exists()
    assert run("rm", "far", "--yes").returncode == 3  # nothing is downloaded
    assert run("rm", "far", "--yes", "--entry").returncode == 0
    assert own.read_text() == ""
    for name in ("builtin", "ash", "laptop"):
        assert run("rm", name, "--yes", "--entry").returncode == 2
