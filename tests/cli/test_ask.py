"""`cf-local ask` end to end: the real command on the built-in models."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Run
from click.testing import CliRunner
from tiny_models import bpe_vocab, make_model

import cf_local
from cf_local.chats.database import ChatStore
from cf_local.chats.transcript import ChatTurn, State, Transcript
from cf_local.cli.main import main
from cf_local.llama.source import LlamaSource

pytestmark = pytest.mark.model

QUESTION = "Tom has 23 apples and buys 45 more. How many apples does he have now?"
MODELS = Path(cf_local.__file__).parent / "builtin"
SOURCES = ["ash", "birch", "cedar"]


def lines(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_answers_on_stdout_and_nothing_else(run: Run) -> None:
    done = run("ask", QUESTION)
    assert done.returncode == 0
    assert done.stdout.endswith(b"The answer is 68.\n")
    assert done.stderr == b""


def test_json_has_a_line_per_step_and_one_for_the_answer(run: Run) -> None:
    *steps, answer = lines(run("ask", QUESTION, "--json").stdout)
    assert all(step["type"] == "step" for step in steps)
    assert set(steps[0]) == {
        "type", "text", "ends", "winners", "candidates", "passes", "elapsed_s",
        "timings_s", "winner", "whole", "asked",
    }  # fmt: skip
    assert answer["type"] == "answer"
    assert "".join(step["text"] for step in steps) == answer["text"]
    assert [step["ends"] for step in steps] == [False] * (len(steps) - 1) + [True]
    assert (answer["finish_reason"], answer["mode"], answer["chosen"]) == (
        "stop",
        "cool",
        "(fused)",
    )
    assert list(answer["passes"]) == SOURCES
    for source in answer["sources"]:
        assert source["sha256"] == hashlib.sha256(Path(source["file"]).read_bytes()).hexdigest()


def arithmetic(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def of_probabilities(scores: Sequence[float]) -> float:
    return -math.log(arithmetic([math.exp(-score) for score in scores]))


@pytest.mark.parametrize(("score", "mean"), [("mixture", of_probabilities), ("nll", arithmetic)])
def test_json_shows_what_each_source_thought_of_each_candidate(
    run: Run, score: str, mean: Callable[[Sequence[float]], float]
) -> None:
    options = ["--score", score, "--weight", "equal", "--all-scores"]
    steps = lines(run("ask", QUESTION, "--json", *options).stdout)[:-1]
    disputed = [step for step in steps if len(step["candidates"]) > 1]
    assert disputed, "the sources agreed on every word"
    assert all(step["asked"] == SOURCES for step in steps)
    for step in disputed:
        means = []
        for candidate in step["candidates"]:
            assert list(candidate["scores"]) == SOURCES
            means.append(mean(list(candidate["scores"].values())))
            assert candidate["mean"] == pytest.approx(means[-1])
        winner = step["candidates"][means.index(min(means))]
        assert step["winners"] == winner["sources"]
        assert step["text"] == winner["text"]


def test_json_tells_who_was_asked(run: Run) -> None:
    *steps, answer = lines(run("ask", QUESTION, "--json").stdout)
    for step in steps:
        assert step["asked"]
        assert step["winner"] in range(len(step["candidates"]))
        for candidate in step["candidates"]:
            assert {*candidate["sources"], *candidate["scores"]} <= {*step["asked"]}
    assert any(step["asked"] != SOURCES for step in steps), "every step asked everyone"
    full = lines(run("ask", QUESTION, "--json", "--all-scores").stdout)
    assert answer["text"] == full[-1]["text"]
    assert [step["text"] for step in steps] == [step["text"] for step in full[:-1]]


def test_json_of_agreement_has_no_scores(run: Run) -> None:
    steps = lines(run("ask", QUESTION, "--json", "--all-scores").stdout)[:-1]
    agreed = [step for step in steps if len(step["candidates"]) == 1]
    assert agreed
    assert all(step["candidates"][0]["scores"] == {} for step in agreed)
    assert all(step["winners"] == SOURCES for step in agreed)


@pytest.mark.parametrize("mode", ["rerank", "cool+r"])
def test_modes_that_choose_among_whole_answers(run: Run, mode: str) -> None:
    *steps, choice, answer = lines(run("ask", QUESTION, "--json", "--mode", mode).stdout)
    assert choice["text"] == answer["text"]
    assert choice["winners"][0] == answer["chosen"]
    assert choice["type"] == ("rerank" if mode == "cool+r" else "step")
    assert bool(steps) == (mode == "cool+r")
    assert run("ask", QUESTION, "--mode", mode).stdout.decode().rstrip("\n") == answer["text"]


def test_one_source_alone(run: Run) -> None:
    answer = lines(run("ask", QUESTION, "--only", "ash", "--json").stdout)[-1]
    assert (answer["mode"], answer["chosen"], list(answer["passes"])) == ("single", "ash", ["ash"])


HALF_THERE = """
[sources.mine]
file = "ash.gguf"
[sources.away]
file = "away.gguf"
[fusions.both]
sources = ["mine", "away"]
weights = {{ mine = 1, away = 2 }}
{more}
"""


def test_of_one_source_alone_the_others_are_not_loaded(run: Run, work_folder: Path) -> None:
    shutil.copy(MODELS / "ash.gguf", work_folder)
    config = work_folder / "models.toml"
    config.write_text(HALF_THERE.format(more=""))
    expected = run("ask", QUESTION, "--model", "ash").stdout
    both = ("ask", QUESTION, "--fusion", "both")
    assert_error(run(*both), 3, "away.gguf")
    assert run(*both, "--only", "mine").stdout == expected
    assert run(*both, "--only", "mine", "--weight", "away=2").stdout == expected
    assert run(*both, "--mode", "single").stdout == expected  # the first
    # Names are checked before the load, so nothing is said of the missing file.
    assert_error(run(*both, "--only", "oak"), 2, "'oak'", "mine", "away")
    assert_error(run(*both, "--only", "mine", "--weight", "oak=2"), 2, "oak", "mine, away")
    config.write_text(HALF_THERE.format(more='only = "mine"\nmode = "single"'))
    assert run(*both).stdout == expected


def test_a_prompt_too_long_is_refused_before_the_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never_loaded(*_: object, **__: object) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(LlamaSource, "__init__", never_loaded)
    monkeypatch.setenv("CF_LOCAL_CACHE", str(tmp_path))
    done = CliRunner().invoke(main, ["ask", "A long text. " * 400])
    assert done.exit_code == 6
    assert "ash: the prompt has " in done.stderr
    assert "the context holds 512" in done.stderr


def test_system_text_reaches_templates_that_have_no_place_for_it(run: Run) -> None:
    done = run("ask", QUESTION, "--system", "You solve word problems.")
    assert (done.returncode, done.stderr) == (0, b"")  # ash's template refuses a system turn
    assert b"The answer is" in done.stdout


def test_no_stream_prints_only_the_answer(run: Run) -> None:
    (answer,) = lines(run("ask", QUESTION, "--json", "--no-stream").stdout)
    assert answer["type"] == "answer"
    assert run("ask", QUESTION, "--no-stream").stdout.decode() == answer["text"] + "\n"


def test_winners_are_marked_with_letters_and_a_legend(run: Run) -> None:
    plain = run("ask", QUESTION).stdout.decode()
    marked = run("ask", QUESTION, "--show-winners")
    assert b"A = ash, B = birch, C = cedar; unmarked: no dispute" in marked.stderr
    assert re.sub(r"\[[ABC]+:(.*?)\]", r"\1", marked.stdout.decode()) == plain
    assert b"[" in marked.stdout
    assert b"\x1b" not in marked.stdout + marked.stderr


def test_prompt_from_a_pipe_a_file_and_both(run: Run, work_folder: Path) -> None:
    expected = run("ask", QUESTION).stdout
    (work_folder / "question.txt").write_text(QUESTION + "\n")
    assert run("ask", stdin=QUESTION.encode() + b"\n").stdout == expected
    assert run("ask", "-f", "question.txt").stdout == expected
    head, _, tail = QUESTION.partition(". ")
    (work_folder / "head.txt").write_text(head + ".")
    assert run("ask", "-f", "head.txt", tail).returncode == 0


def test_raw_continues_the_prompt(run: Run) -> None:
    done = run("ask", "--raw", "--max-tokens", "5", "--json", "The answer is")
    *steps, answer = lines(done.stdout)
    assert answer["finish_reason"] in ("length", "stop")
    assert len(steps) <= 5


def test_max_tokens_and_stop_strings_end_the_answer(run: Run) -> None:
    short = lines(run("ask", QUESTION, "--json", "--max-tokens", "3").stdout)[-1]
    assert short["finish_reason"] == "length"
    full = lines(run("ask", QUESTION, "--json").stdout)[-1]
    stopped = lines(run("ask", QUESTION, "--json", "--stop", "answer").stdout)[-1]
    assert stopped["finish_reason"] == "stop"
    assert stopped["text"] == full["text"].partition("answer")[0]


def test_sampling_repeats_with_its_seed(run: Run) -> None:
    sampled = [
        run("ask", QUESTION, "--temperature=3", "--max-tokens=40", "--seed", seed).stdout
        for seed in ("1", "1", "2", "3")
    ]
    assert sampled[0] == sampled[1]
    assert len(set(sampled)) > 1


def test_a_weight_decides_who_is_heard(run: Run) -> None:
    alone = run("ask", QUESTION, "--only", "cedar").stdout
    weights = [f"--weight={name}=0" for name in ("ash", "birch")]
    assert run("ask", QUESTION, *weights).stdout == alone


def test_segments_of_words_and_weights_of_a_fusion_file(run: Run, work_folder: Path) -> None:
    (work_folder / "models.toml").write_text(
        '[fusions.long]\nsources = ["ash", "birch"]\nsegment_words = 4\nseed = 3\n'
    )
    *steps, answer = lines(run("ask", QUESTION, "--json", "--fusion", "long").stdout)
    assert len(steps) < len(answer["text"].split()) / 2
    *steps, answer = lines(
        run("ask", QUESTION, "--json", "--fusion", "long", "--segment-words", "1").stdout
    )
    assert len(steps) >= len(answer["text"].split())
    shown = run("list", "--all").stdout
    assert b"aligned segments of 4 words, seed 3" in shown
    done = run("ask", QUESTION, "--fusion", "long", "--segments", "sentence")
    assert done.returncode == 2
    assert b"do not count" in done.stderr


def test_statistics_go_to_stderr(run: Run) -> None:
    done = run("ask", QUESTION, "--stats")
    assert done.stdout.endswith(b"The answer is 68.\n")
    *steps, _answer = lines(run("ask", QUESTION, "--json").stdout)
    n_undisputed = sum(len(step["candidates"]) == 1 for step in steps)
    assert b"no dispute on %d of %d segments" % (n_undisputed, len(steps)) in done.stderr


def test_answers_without_a_network(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*_, **__): raise RuntimeError('a socket was opened')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
    )
    done = run("ask", QUESTION, env={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})
    assert (done.returncode, done.stderr) == (0, b"")


# ---- Bad input: a clear error, the exit code of its kind, no traceback ---------------------------


def assert_error(done: subprocess.CompletedProcess[bytes], code: int, *words: str) -> None:
    message = done.stderr.decode()
    assert done.returncode == code, message
    assert "Traceback" not in message
    assert done.stdout == b""
    for word in words:
        assert word in message


def test_empty_prompts(run: Run) -> None:
    assert_error(run("ask", ""), 2, "empty")
    assert_error(run("ask", "  \n"), 2, "empty")
    assert_error(run("ask", stdin=b""), 2, "empty")


def test_stdin_that_is_not_utf8(run: Run) -> None:
    assert_error(run("ask", stdin=b"caf\xe9"), 2, "standard input", "UTF-8", "0xe9", "offset 3")


def test_a_prompt_file_that_is_missing(run: Run) -> None:
    assert_error(run("ask", "-f", "nowhere.txt"), 2, "nowhere.txt")


def test_unknown_names_are_told_the_nearest(run: Run) -> None:
    assert_error(run("ask", "hi", "--fusion", "bultin"), 2, "bultin", "builtin")
    assert_error(run("ask", "hi", "--model", "cedr"), 2, "cedr", "cedar")
    assert_error(run("ask", "hi", "--only", "oak"), 2, "oak", "ash")
    assert_error(run("ask", "hi", "--weight", "oak=1"), 2, "oak", "ash")
    assert_error(run("ask", "hi", "--weight", "ash=x"), 2, "'ash=x' is not SOURCE=NUMBER")


def test_a_text_can_be_banned(run: Run) -> None:
    question = "What is 7 times 8?"
    assert b"56" in run("ask", question).stdout
    assert b"56" not in run("ask", question, "--logit-bias", "56=-100").stdout
    variable = {"CF_LOCAL_LOGIT_BIAS": "56=-100 ' 7 times=-2'"}
    assert b"56" not in run("ask", question, env=variable).stdout
    assert_error(run("ask", "hi", "--logit-bias", "5"), 2, "'5' is not TEXT=NUMBER")
    assert_error(run("ask", "hi", "--logit-bias", "5=101"), 2, "logit_bias: 5 is 101.0")


def test_an_unknown_key_of_models_toml(run: Run, work_folder: Path) -> None:
    (work_folder / "models.toml").write_text(
        '[fusions.mine]\nsources = ["ash"]\nscor = "nll"\n', encoding="utf-8"
    )
    assert_error(run("ask", "hi"), 2, "models.toml", "scor", "score")


def test_a_missing_model_file(run: Run) -> None:
    assert_error(run("ask", "hi", "--model", "nowhere.gguf"), 3, "nowhere.gguf")


def test_a_model_that_is_not_downloaded(run: Run, tmp_path: Path) -> None:
    done = run("ask", "hi", "--fusion", "paper", "--offline", env={"HF_HOME": str(tmp_path)})
    assert_error(done, 3, "Meta-Llama-3-8B-Instruct", "offline")


@pytest.mark.parametrize("n_bytes", [4, 64, 5000, 500_000])
def test_truncated_files(run: Run, work_folder: Path, n_bytes: int) -> None:
    whole = Path(lines(run("ask", "hi", "--json").stdout)[-1]["sources"][0]["file"]).read_bytes()
    (work_folder / "short.gguf").write_bytes(whole[:n_bytes])
    assert_error(run("ask", "hi", "--model", "short.gguf"), 4, "short.gguf")


def test_a_file_that_is_no_model(run: Run, work_folder: Path) -> None:
    (work_folder / "text.gguf").write_text("not a model", encoding="utf-8")
    assert_error(run("ask", "hi", "--model", "text.gguf"), 4, "text.gguf", "not a GGUF")


def test_a_prompt_longer_than_the_context(run: Run) -> None:
    assert_error(run("ask", "apples " * 3000), 6, "ash", "context")
    assert_error(run("ask", QUESTION, "--context", "8"), 6, "ash", "8")


def test_a_name_that_is_not_utf8(run: Run, work_folder: Path) -> None:
    file = work_folder / os.fsdecode(b"ash\xff.gguf")
    shutil.copy(MODELS / "ash.gguf", file)
    page = work_folder / "trace.html"
    done = run("ask", QUESTION, "--model", str(file), "--json", "--trace", str(page))
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[-1]["sources"][0]["name"] == "ash?"
    assert "ash?" in page.read_text()
    assert_error(run("models", "add", "mine", "--path", str(file)), 2, "not UTF-8", "Rename")
    assert_error(run("ask", "Hi", "--system", os.fsdecode(b"\xff")), 2, "not UTF-8")


def test_a_link_to_itself_is_no_model(run: Run, work_folder: Path) -> None:
    (work_folder / "loop.gguf").symlink_to("loop.gguf")
    assert_error(
        run("ask", "Hi", "--model", "loop.gguf"), 3, "The model file", "loop.gguf does not exist"
    )


def test_more_threads_than_llama_cpp_has(run: Run, work_folder: Path) -> None:
    assert_error(run("ask", "Hi", "--threads", "100000"), 2, "100000", "512")
    text = '[sources.a]\nfile = "builtin:ash.gguf"\nthreads = 100000\n'
    (work_folder / "models.toml").write_text(text)
    assert_error(run("ask", "Hi", "--model", "a"), 2, "threads", "100000", "512")


def a_thinker(folder: Path) -> list[str]:
    """The options for two sources that think; written into the folder's models.toml."""
    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    template += "{% if enable_thinking is not false %}<think>{% endif %}"
    entries = [f'[sources.{n}]\nfile = "builtin:{n}.gguf"\ntemplate = "{template}"\n' for n in "ab"]
    text = "".join(entries).replace("builtin:a.", "builtin:ash.").replace(":b.", ":birch.")
    (folder / "models.toml").write_text(text)
    return ["--model", "a", "--model", "b"]


def test_thinking_is_left_out_in_a_pipe(run: Run, work_folder: Path) -> None:
    options = [*a_thinker(work_folder), "--max-thinking-tokens", "5"]
    *steps, answer = lines(run("ask", QUESTION, *options, "--json").stdout)
    (ended,) = [step for step in steps if not step["winners"]]
    assert ended["text"] == "\n</think>\n\n"
    assert answer["thinking"].endswith("\n")
    text = "".join(step["text"] for step in steps)
    assert text == f"{answer['thinking']}</think>\n\n{answer['text']}"
    for more in ([], ["--no-stream"], ["--mode", "rerank", "--only", "a"]):
        done = run("ask", QUESTION, *options, *more)
        if "--only" not in more:
            assert done.stdout.decode() == f"{answer['text']}\n"
        assert b"think>" not in done.stdout
    assert answer["thinking"]


def test_asked_not_to_think(run: Run, work_folder: Path) -> None:
    options = a_thinker(work_folder)
    answer = lines(run("ask", QUESTION, *options, "--no-think", "--json").stdout)[-1]
    assert "thinking" not in answer
    assert run("ask", QUESTION, *options, "--no-think").stdout.decode() == f"{answer['text']}\n"
    assert_error(run("ask", QUESTION, "--raw", "--think"), 2, "--think", "--raw")


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.parametrize("marks", [(), ("--show-winners",)])
def test_thinking_is_dimmed_on_a_terminal(
    run: Run, work_folder: Path, environment: dict[str, str], marks: tuple[str, ...]
) -> None:
    import pexpect

    options = [*a_thinker(work_folder), "--max-thinking-tokens", "5"]
    answer = lines(run("ask", QUESTION, *options, "--json").stdout)[-1]
    command = ["-m", "cf_local", "ask", QUESTION, *options, *marks]
    child = pexpect.spawn(
        sys.executable, command, cwd=work_folder, env={**environment, "TERM": "xterm"}, timeout=60
    )
    shown = child.read().decode().replace("\r", "")
    assert "\x1b[2m" in shown
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    thought, _, rest = shown.rpartition("no dispute\n")[-1].rpartition("\n\n")
    assert bool(re.search("[ᵃᵇ]", thought)) == bool(marks)
    assert answer["thinking"].strip() in re.sub("[ᵃᵇ]", "", thought)
    assert re.sub("[ᵃᵇ]", "", rest) == f"{answer['text']}\n"


def test_usage_errors(run: Run) -> None:
    assert_error(run("ask", "hi", "--mode", "hot"), 2, "hot", "cool")
    assert_error(run("ask", "hi", "--max-tokens", "0"), 2, "max-tokens")
    assert_error(run("ask", "hi", "--raw", "--system", "be kind"), 2, "--raw")
    assert_error(run("ask", "hi", "--fusion", "builtin", "--model", "ash"), 2, "not both")


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send to a child")
def test_ctrl_c_keeps_what_came(environment: dict[str, str], tmp_path: Path) -> None:
    how = {"seed": 1, "n_ctx": 30_000, "eog_bias": -60}
    endless = make_model(tmp_path / "endless.gguf", "llama", bpe_vocab(), **how)
    command = [sys.executable, "-m", "cf_local", "ask", "go", "--model", str(endless)]
    command += ["--context", "30000"]
    with subprocess.Popen(
        [*command, "--max-tokens", "100000", "--temperature", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(8)
        process.send_signal(signal.SIGINT)
        rest, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(first) == 8
    assert b"interrupted" in message
    assert b"Traceback" not in message
    assert rest.endswith(b"\n")


# --- Joined input, and answers that were cut ------------------------------------------------------


def test_a_pipe_and_words_without_quotes_are_one_question(run: Run) -> None:
    whole = run("ask", QUESTION).stdout
    first, rest = QUESTION.split(". ", 1)
    assert run("ask", *rest.split(), stdin=f"{first}.\n".encode()).stdout == whole


def test_a_cut_answer_says_so_and_continues(run: Run) -> None:
    whole = run("ask", QUESTION)
    assert b"cut" not in whole.stderr
    assert_error(run("ask", "--continue"), 2, "nothing to continue")
    start = run("ask", QUESTION, "--max-tokens", "7", "--model", "ash", "--model", "birch")
    assert b"`cf-local ask --continue --model ash --model birch` goes on" in start.stderr
    models = ("--model", "ash", "--model", "birch")
    rest = run("ask", "--continue", *models)
    joined = start.stdout.removesuffix(b"\n") + rest.stdout
    assert joined == run("ask", QUESTION, *models).stdout
    assert_error(run("ask", "--continue"), 2, "nothing to continue")
    assert run("history", "list").stdout.count(b"1 turn") == 1
    assert joined.strip() in run("history", "show", "1").stdout


def test_a_chat_s_cut_answer_continues(run: Run) -> None:
    models = ("--model", "ash", "--model", "birch")
    whole = run("ask", QUESTION, *models).stdout
    start = run("chat", "--max-tokens", "7", *models, stdin=QUESTION.encode())
    assert b"Note: The answer is cut: it reached max_tokens" in start.stderr
    assert b"/continue goes on." in start.stderr
    rest = run("ask", "--continue", *models)
    assert start.stdout.removesuffix(b"\n") + rest.stdout == whole
    assert_error(run("ask", "--continue"), 2, "nothing to continue")


@pytest.mark.parametrize("state", ["stopped", "writing"])
def test_only_an_answer_with_a_word_continues(
    run: Run, environment: dict[str, str], state: State
) -> None:
    before = Transcript(None, (ChatTurn(QUESTION, "Tom has"), ChatTurn(QUESTION, state=state)))
    folder = Path(environment["CF_LOCAL_DATA"])
    folder.mkdir()
    with ChatStore(folder / "conversations.db") as store:
        number, revision = store.save(None, 0, before, 0, "ash")
        assert_error(run("ask", "--continue"), 2, "before its first word")
        begun = before.without_last().with_turn(ChatTurn(QUESTION, "Tom has", state=state))
        store.save(number, revision, begun, 1, "ash")
        assert run("ask", "--continue").stdout.strip().endswith(b"The answer is 68.")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX terminal")
@pytest.mark.parametrize("options", [(), ("--show-winners",)])
def test_lines_break_between_words(
    run: Run, environment: dict[str, str], work_folder: Path, options: tuple[str, ...]
) -> None:
    import pexpect
    import pyte

    child = pexpect.spawn(
        sys.executable,
        ["-m", "cf_local", "ask", QUESTION, *options],
        env=environment | {"TERM": "xterm-256color"},
        cwd=work_folder,
        encoding="utf-8",
        dimensions=(24, 30),
        timeout=60,
    )
    child.expect(pexpect.EOF)
    screen = pyte.Screen(30, 24)  # on which a line that says how much is loaded comes and goes
    pyte.Stream(screen).feed(child.before)
    rows = [row.rstrip() for row in screen.display if row.strip()]
    legend = [at for at, row in enumerate(rows) if row.endswith("dispute")]
    text = [re.sub("[ᵃᵇᶜ]", "", row) for row in rows[legend[-1] + 1 if legend else 0 :]]
    assert bool(legend) == bool(options)
    assert len(text) > 1
    assert " ".join(text) == run("ask", QUESTION).stdout.decode().strip()


def test_what_is_kept(run: Run) -> None:
    run("ask", QUESTION)
    cut = run("ask", QUESTION, "--max-tokens", "7", "--no-save")
    assert b"cut" in cut.stderr
    assert b"--continue" not in cut.stderr
    assert b"1 turn" not in run("history", "list").stdout
    run("ask", QUESTION, "--save", "--system", "Be brief.")
    run("ask", QUESTION, env={"CF_LOCAL_SAVE": "1"})
    assert run("history", "list").stdout.count(b"1 turn") == 2
