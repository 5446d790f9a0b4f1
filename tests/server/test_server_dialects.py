"""What all dialects have in common: the same question gets the same answer in each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import pytest
from answering import SUM, TWO_CALLS, says
from dialects import DIALECTS, Said, Spoken
from serving import QUESTION, Reply, Served, serving, slow, wait_until

import cf_local

GIVEN_UP = 'cf_local_answers_total{end="given_up",model="builtin"}'
RUNNING = "cf_local_running"


@pytest.fixture(params=DIALECTS, ids=lambda dialect: type(dialect).__name__)
def dialect(request: pytest.FixtureRequest) -> Spoken:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    with serving(says("A fox ran. It sleeps.")) as served:
        yield served


def ask(served: Served, dialect: Spoken, body: Any, **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.ask("POST", dialect.path, body, sent)


def said(served: Served, dialect: Spoken, **given: Any) -> Said:
    """An answer, which is the same as a stream."""
    whole = ask(served, dialect, dialect.body(**given, stream=False))
    assert whole.status == 200, whole.body
    streamed = ask(served, dialect, dialect.body(**given, stream=True))
    assert streamed.status == 200, streamed.body
    found = dialect.whole(whole.json)
    assert astuple(dialect.stream(streamed)) == astuple(found)
    return found


# --- Answers --------------------------------------------------------------------------------


@pytest.mark.model
def test_the_answer_is_the_librarys(dialect: Spoken, served: Served) -> None:
    with cf_local.load() as fusion:
        expected = fusion.answer(cf_local.chat(QUESTION))
    found = said(served, dialect, text=QUESTION)
    assert (found.text, found.finish) == (expected.text, "stop")
    assert found.n_tokens[0] == expected.prompt_tokens["ash"]
    assert found.n_tokens[1] > 5


def test_too_few_tokens_are_a_cut(dialect: Spoken, plain: Served) -> None:
    found = said(plain, dialect, max_tokens=2)
    assert found.finish == "length"
    assert found.n_tokens[1] <= 2
    assert "A fox ran.".startswith(found.text)


def test_a_stop_text_ends_the_answer(dialect: Spoken, plain: Served) -> None:
    if "stop" not in dialect.lacks:
        found = said(plain, dialect, stop=["nowhere", " It"])
        assert (found.text, found.finish) == ("A fox ran.", "stop")


def test_talk_and_calls(dialect: Spoken) -> None:
    with serving(says(TWO_CALLS)) as served:
        found = said(served, dialect, tools=True)
    assert found.text == "Let me see."
    assert found.calls == [("add", json.loads(SUM)), ("mul", {})]
    assert found.finish == "tool_calls"


def test_thinking_is_apart(dialect: Spoken) -> None:
    with serving(says("<think>\nHm.\n</think>\n\nYes.")) as served:
        found = said(served, dialect)
    assert (found.thinking.strip(), found.text) == ("Hm.", "Yes.")


def test_what_is_empty_is_an_answer(dialect: Spoken) -> None:
    with serving(says("")) as served:
        assert said(served, dialect).text == ""


# --- Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ({"model": "nonesuch"}, 404, "No model is named 'nonesuch'"),
        ({"model": "laptop"}, 404, "'laptop'"),
        ({"model": None}, 400, "model"),
        ({"text": "many words " * 5000}, 400, "context"),
        ({"text": "half \ud800"}, 400, "lone surrogate"),
        ({"text": ""}, 200, ""),
        ({"cf_local": {"only": "zoe"}}, 400, "zoe"),
        ({"cf_local": {"no": 1}}, 400, "no"),
        ({"temperature": "hot"}, 400, "temperature"),
    ],
)
@pytest.mark.model
def test_errors_are_of_the_same_kinds(
    dialect: Spoken, served: Served, more: dict[str, Any], status: int, told: str
) -> None:
    for stream in (False, True):
        reply = ask(served, dialect, dialect.body(**{"max_tokens": 4} | more, stream=stream))
        assert reply.status == status, reply.body
        assert status == 200 or told in dialect.error(reply)


def test_what_is_no_json_is_refused(dialect: Spoken, plain: Served) -> None:
    sent = {"Content-Type": "application/json"}
    for raw in (b"", b"{", b"[]", b"[" * 5000, b'{"model": NaN}', b"\xff", b'{"a": "\\ud800"}'):
        reply = plain.ask("POST", dialect.path, raw=raw, headers=sent)
        assert reply.status == 400, (raw, reply.body)
        assert dialect.error(reply)
    reply = plain.ask("POST", dialect.path, raw=b"{}", headers={"Content-Type": "text/plain"})
    assert reply.status == 415
    assert plain.ask("PUT", dialect.path, {}).status == 405


def test_fields_without_effect_are_named(dialect: Spoken, plain: Served) -> None:
    body = dialect.body(mirostat=2)
    told = ask(plain, dialect, body).headers["warning"]
    assert told == '299 cf-local "Ignored parameters: mirostat"'
    assert "warning" not in ask(plain, dialect, dialect.body()).headers
    with serving(says("Yes."), is_strict=True) as strict:
        reply = ask(strict, dialect, body)
        assert (reply.status, "mirostat" in dialect.error(reply)) == (400, True)
        assert ask(strict, dialect, dialect.body()).status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_tools_of_the_server_are_left_out_among_functions(
    dialect: Spoken, plain: Served, stream: bool
) -> None:
    others = [{"type": "web_search_9", "name": "web_search"}, {"type": "namespace", "tools": [{}]}]
    tools = [others[0], *dialect.tools(), *others]
    reply = ask(plain, dialect, dialect.body(stream=stream) | {"tools": tools})
    assert reply.status == 200, reply.body
    told = "Ignored parameters: tools.web_search_9, tools.namespace"
    assert reply.headers["warning"] == f'299 cf-local "{told}"'
    with serving(says("Yes."), is_strict=True) as strict:
        reply = ask(strict, dialect, dialect.body() | {"tools": tools})
        assert (reply.status, "tools.web_search_9" in dialect.error(reply)) == (400, True)
    reply = ask(plain, dialect, dialect.body() | {"tools": others})  # it was asked for nothing else
    assert (reply.status, "'web_search_9'" in dialect.error(reply)) == (400, True)


# --- The server -----------------------------------------------------------------------------


def test_the_key_and_the_guard_hold(dialect: Spoken) -> None:
    body = dialect.body()
    with serving(says("Yes."), api_key="secret") as served:
        for headers in ({}, {"x_api_key": "wrong"}, {"Authorization": "Bearer wrong"}):
            reply = ask(served, dialect, body, **headers)
            assert reply.status == 401
            assert "key" in dialect.error(reply)
        for headers in ({"x_api_key": "secret"}, {"Authorization": "Bearer secret"}):
            assert ask(served, dialect, body, **headers).status == 200
        sent = {"x_api_key": "secret", "Origin": "https://elsewhere.example"}
        assert ask(served, dialect, body, **sent).status == 403
        assert ask(served, dialect, body, Host="elsewhere.example").status == 403


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_is_answered_no_more(dialect: Spoken, stream: bool) -> None:
    with serving(slow(n_sessions=2), n_slots=2) as served:
        sock = served.open(dialect.body(max_tokens=100_000, stream=stream), dialect.path)
        served.wait_for(RUNNING, 1)
        wait_until(lambda: served.figure("cf_local_segments_total") > 0, "segments")
        if stream:
            assert sock.recv(100)
        sock.close()
        served.wait_for(GIVEN_UP, 1)
        served.wait_for(RUNNING, 0)
        route = f'cf_local_requests_total{{route="{dialect.path}",status="499"}}'
        served.wait_for(route, 1)


def test_what_takes_too_long_is_told(dialect: Spoken) -> None:
    with serving(slow(), timeout_s=0.3, first_s=0.05) as served:
        whole = ask(served, dialect, dialect.body(max_tokens=100_000))
        assert (whole.status, "took longer" in dialect.error(whole)) == (504, True)
        streamed = ask(served, dialect, dialect.body(max_tokens=100_000, stream=True))
        assert streamed.status == 200
        assert b"took longer" in streamed.body
