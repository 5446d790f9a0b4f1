"""The real client of OpenAI against a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from serving import PATIENCE_S, QUESTION, Served, endless, serving, slow

import cf_local

openai = pytest.importorskip("openai", reason="needs the openai package")
pytestmark = pytest.mark.model

MESSAGES = [{"role": "user", "content": QUESTION}]
COLOUR = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
        "ok": {"type": "boolean"},
    },
    "required": ["n", "ok"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return openai.OpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    )


@pytest.fixture(scope="module")
def alone() -> dict[str, cf_local.Answer]:
    """What the library answers."""
    with cf_local.load() as fusion:
        modes = ("cool", "rerank", "cool+r")
        settings = {m: cf_local.Settings(mode=m) for m in modes}  # type: ignore[arg-type]
        return {m: fusion.answer(cf_local.chat(QUESTION), s) for m, s in settings.items()}


def test_models(client: Any) -> None:
    models = {model.id: model.cf_local for model in client.models.list()}
    assert models["builtin"]["kind"] == "fusion"
    assert models["builtin"]["sources"] == ["ash", "birch", "cedar"]
    assert models["builtin"]["modes"] == ["cool", "rerank", "cool+r", "single"]
    assert models["builtin"]["default"] is True
    assert models["ash"]["kind"] == "source"
    assert "laptop" not in models  # not on this machine
    assert client.models.retrieve("builtin:cool+r").id == "builtin:cool+r"


def test_the_default_is_the_first_model_that_clients_see(tmp_path: Path) -> None:
    registry = tmp_path / "models.toml"
    registry.write_text('default = "mine"\n[fusions.mine]\nsources = ["ash", "cedar"]\n')
    with serving(models=registry) as served:
        listed = served.ask("GET", "/v1/models").json["data"]
    assert [model["id"] for model in listed[:2]] == ["mine", "builtin"]


@pytest.mark.parametrize("mode", ["cool", "rerank", "cool+r"])
def test_an_answer_is_the_librarys(
    client: Any, mode: str, alone: dict[str, cf_local.Answer]
) -> None:
    done = client.chat.completions.create(model=f"builtin:{mode}", messages=MESSAGES)
    choice = done.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", alone[mode].text)
    assert choice.finish_reason == "stop"
    assert done.usage.prompt_tokens == alone[mode].prompt_tokens["ash"]
    assert done.usage.completion_tokens > 5
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


@pytest.mark.parametrize("mode", ["cool", "rerank", "cool+r"])
def test_a_stream_says_the_same(client: Any, mode: str, alone: dict[str, cf_local.Answer]) -> None:
    chunks = list(
        client.chat.completions.create(
            model=f"builtin:{mode}",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *parts, usage = chunks
    texts = [chunk.choices[0].delta.content or "" for chunk in parts]
    assert "".join(texts) == alone[mode].text
    assert parts[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in parts] == [None] * (len(parts) - 1) + ["stop"]
    n_pieces = len([text for text in texts if text])
    assert n_pieces > 5 if mode == "cool" else n_pieces == 1
    assert usage.choices == []
    assert usage.usage.prompt_tokens == alone[mode].prompt_tokens["ash"]
    assert all(chunk.usage is None for chunk in parts)
    assert len({chunk.id for chunk in chunks}) == 1


def test_an_aborted_stream_ends_its_answer(client: Any) -> None:
    body = endless() | {"extra_body": {"cf_local": endless()["cf_local"]}}
    body.pop("cf_local")
    with serving(slow()) as served:
        there = client.with_options(base_url=f"{served.url}/v1")
        stream = there.chat.completions.create(**body, stream=True)
        assert next(stream).choices[0].delta.role == "assistant"
        assert served.figure("cf_local_running") == 1
        stream.close()
        served.wait_for('cf_local_answers_total{end="given_up",model="builtin"}', 1)
        assert served.figure("cf_local_running") == 0


def test_a_source_alone_and_roles_and_parts(client: Any) -> None:
    with cf_local.load(models=["ash"]) as ash:
        turns = (
            cf_local.Message("system", "Answer."),
            cf_local.Message("user", "What is 2 + 2?\nNow."),
        )
        expected = ash.answer(cf_local.Chat(turns), cf_local.Settings(max_tokens=12)).text
    parts = [{"type": "text", "text": "What is 2 + 2?"}, {"type": "text", "text": "Now."}]
    messages = [{"role": "developer", "content": "Answer."}, {"role": "user", "content": parts}]
    done = client.chat.completions.create(model="ash", messages=messages, max_completion_tokens=12)
    assert done.choices[0].message.content == expected


def test_an_answer_can_go_back_as_it_came(client: Any) -> None:
    first = client.chat.completions.create(model="builtin", messages=MESSAGES)
    again = [*MESSAGES, first.choices[0].message, {"role": "user", "content": "And 2 more?"}]
    assert client.chat.completions.create(model="builtin", messages=again).choices[0].message


def test_stop_as_text_and_as_list(client: Any, alone: dict[str, cf_local.Answer]) -> None:
    whole = alone["cool"].text
    cut = whole[: whole.index(" apples")]
    for stop in (" apples", ["nowhere", " apples"]):
        done = client.chat.completions.create(model="builtin", messages=MESSAGES, stop=stop)
        assert done.choices[0].message.content == cut
        assert done.choices[0].finish_reason == "stop"


def test_too_few_tokens_are_a_length(client: Any) -> None:
    done = client.chat.completions.create(model="builtin", messages=MESSAGES, max_tokens=3)
    assert done.choices[0].finish_reason == "length"
    # Three of the source that needs fewest; "usage" counts those of the first.
    assert 1 <= done.usage.completion_tokens <= 10


def test_several_choices_and_their_seeds(client: Any) -> None:
    def texts(**more: Any) -> list[str]:
        done = client.chat.completions.create(
            model="ash", messages=MESSAGES, n=3, temperature=2, max_tokens=40, **more
        )
        assert [choice.index for choice in done.choices] == [0, 1, 2]
        return [choice.message.content for choice in done.choices]

    assert len(set(texts(seed=7))) > 1
    assert texts(seed=7) == texts(seed=7)
    assert texts(seed=7) != texts(seed=8)
    assert texts() != texts()  # none was named
    assert len(set(texts(seed=7, top_p=0.0))) == 1


def test_several_choices_in_a_stream(client: Any, alone: dict[str, cf_local.Answer]) -> None:
    found = ["", ""]
    for chunk in client.chat.completions.create(
        model="builtin", messages=MESSAGES, n=2, stream=True
    ):
        found[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert found == [alone["cool"].text] * 2


def test_logprobs_are_of_segments(client: Any, alone: dict[str, cf_local.Answer]) -> None:
    done = client.chat.completions.create(
        model="builtin",
        messages=MESSAGES,
        logprobs=True,
        top_logprobs=3,
        extra_body={"cf_local": {"trace": True}},
    )
    choice = done.choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == alone["cool"].text
    assert all(bytes(token.bytes).decode() == token.token for token in tokens)
    segments = choice.cf_local["segments"]
    for token, segment in zip(tokens, segments, strict=True):
        means = [c["mean"] for c in segment["candidates"]]
        won = next(c for c in segment["candidates"] if c["won"])
        assert token.logprob == -won["mean"] == -min(means)
        assert [t.logprob for t in token.top_logprobs] == sorted(-m for m in means)[::-1][:3]
    assert any(len(token.top_logprobs) > 1 for token in tokens)


def test_logprobs_of_another_score_are_in_nats(client: Any) -> None:
    done = client.chat.completions.create(
        model="builtin",
        messages=MESSAGES,
        logprobs=True,
        extra_body={"cf_local": {"score": "perplexity"}},
    )
    found = [token.logprob for token in done.choices[0].logprobs.content]
    assert max(found) < 0
    assert min(found) < -0.1


def test_logprobs_of_a_single_source_are_those_of_its_text(client: Any) -> None:
    done = client.chat.completions.create(
        model="ash", messages=MESSAGES, logprobs=True, top_logprobs=1
    )
    choice = done.choices[0]
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(token.logprob < 0 for token in tokens)
    with cf_local.load(models=["ash"]) as ash:
        settings = cf_local.Settings(score_unanimous=True)
        steps = list(ash.stream(cf_local.chat(QUESTION), settings))[:-1]
        plain = ash.answer(cf_local.chat(QUESTION))
    assert [t.logprob for t in tokens] == [-s.candidates[0].mean for s in steps]
    assert plain.text == choice.message.content


def test_a_last_turn_of_the_assistant_is_continued(
    client: Any, alone: dict[str, cf_local.Answer]
) -> None:
    whole = alone["cool"].text
    start = whole[: whole.index(" apples")]
    begun = [*MESSAGES, {"role": "assistant", "content": start}]
    done = client.chat.completions.create(model="builtin", messages=begun)
    assert start + done.choices[0].message.content == whole
    for more in ({"model": "builtin:cool+r"}, {"response_format": {"type": "json_object"}}):
        with pytest.raises(openai.BadRequestError, match="cannot continue"):
            client.chat.completions.create(**{"model": "builtin", "messages": begun} | more)


def test_parameters_without_effect_are_named_in_a_header(client: Any) -> None:
    for stream in (False, True):
        reply = client.chat.completions.with_raw_response.create(
            model="builtin", messages=MESSAGES, stream=stream,
            extra_body={"mirostat": 2, 'x"\r\ny': 1},
        )  # fmt: skip
        assert reply.headers["warning"] == '299 cf-local "Ignored parameters: mirostat, x???y"'
    plain = client.chat.completions.with_raw_response.create(model="builtin", messages=MESSAGES)
    assert "warning" not in plain.headers


def test_no_limit_is_the_end_of_the_answer(client: Any, alone: dict[str, cf_local.Answer]) -> None:
    done = client.chat.completions.create(model="builtin", messages=MESSAGES, max_tokens=-1)
    assert done.choices[0].message.content == alone["cool"].text


def test_completions(client: Any) -> None:
    with cf_local.load() as fusion:
        settings = cf_local.Settings(max_tokens=10)
        expected = [fusion.answer(cf_local.RawText(t), settings).text for t in ("Tom has", "A box")]
    done = client.completions.create(
        model="builtin", prompt=["Tom has", "A box"], max_tokens=10, logprobs=2
    )
    assert [choice.text for choice in done.choices] == expected
    told = done.choices[0].logprobs
    assert "".join(told.tokens) == expected[0]
    starts = [expected[0].index(told.tokens[0]), *told.text_offset[1:]]
    assert all(expected[0][at:].startswith(t) for at, t in zip(starts, told.tokens, strict=True))
    assert all(t in top for t, top in zip(told.tokens, told.top_logprobs, strict=True))
    chunks = list(
        client.completions.create(model="builtin", prompt="Tom has", max_tokens=10, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected[0]
    assert chunks[-1].choices[0].finish_reason == done.choices[0].finish_reason


def test_an_answer_of_a_schema(client: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": COLOUR}}
    done = client.chat.completions.create(model="builtin", messages=MESSAGES, response_format=form)
    assert done.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(done.choices[0].message.content), COLOUR)


def test_an_answer_of_a_grammar(client: Any) -> None:
    grammar = 'root ::= "yes" | "no"'
    for more in (
        {"response_format": {"type": "grammar", "grammar": grammar}},
        {"grammar": grammar},
    ):
        done = client.chat.completions.create(model="builtin", messages=MESSAGES, extra_body=more)
        assert done.choices[0].message.content in ("yes", "no")


def test_settings_of_the_extension(client: Any, alone: dict[str, cf_local.Answer]) -> None:
    def told(**extension: Any) -> Any:
        return client.chat.completions.create(
            model="builtin",
            messages=MESSAGES,
            extra_body={"cf_local": {"trace": True} | extension},
        ).choices[0]

    assert told(mode="rerank").cf_local["answer"]["mode"] == "rerank"
    alone_again = told(only="birch").cf_local
    assert alone_again["answer"]["chosen"] == "birch"
    assert all(segment["agreed"] for segment in alone_again["segments"])
    swayed = told(weights={"birch": 0, "cedar": 0})
    with cf_local.load() as fusion:
        weighed = cf_local.Settings(weights={"birch": 0.0, "cedar": 0.0})
        assert swayed.message.content == fusion.answer(cf_local.chat(QUESTION), weighed).text


def test_the_trace_of_a_stream(client: Any, alone: dict[str, cf_local.Answer]) -> None:
    chunks = list(
        client.chat.completions.create(
            model="builtin:cool+r",
            messages=MESSAGES,
            stream=True,
            extra_body={"cf_local": {"trace": True}},
        )
    )
    segments = [c.cf_local["segment"] for c in chunks if "segment" in getattr(c, "cf_local", {})]
    answer = chunks[-1].cf_local["answer"]
    *fused, whole = segments
    assert whole["whole"]
    assert whole["text"] == alone["cool+r"].text == answer["text"]
    assert not any(segment["whole"] for segment in fused)
    assert answer["segments"] == len(fused)
    undisputed = [s for s in fused if len(s["candidates"]) == 1]
    assert answer["agreement"] == len(undisputed) / len(fused)
    for segment in segments:
        (won,) = [c for c in segment["candidates"] if c["won"]]
        assert won["sources"] == segment["winners"]


@pytest.mark.parametrize(
    ("more", "kind", "code"),
    [
        ({"model": "nonesuch"}, "NotFoundError", "model_not_found"),
        ({"model": "laptop"}, "NotFoundError", "model_not_found"),  # known, but not here
        ({"model": "builtin:fast"}, "BadRequestError", "model_not_found"),
        ({"model": "../../etc/passwd"}, "NotFoundError", "model_not_found"),
        ({"tools": [{"type": "web_search"}]}, "BadRequestError", "unsupported_parameter"),
        ({"messages": []}, "BadRequestError", "invalid_value"),
        ({"extra_body": {"cf_local": {"no": 1}}}, "BadRequestError", "unknown_parameter"),
        ({"extra_body": {"cf_local": {"only": "zoe"}}}, "BadRequestError", None),
        (
            {"messages": [{"role": "user", "content": "many words " * 2000}]},
            "BadRequestError",
            "context_length_exceeded",
        ),
    ],
)
def test_errors_are_the_clients_own(
    client: Any, more: dict[str, Any], kind: str, code: str | None
) -> None:
    for stream in (False, True):
        with pytest.raises(getattr(openai, kind)) as caught:
            client.chat.completions.create(
                **{"model": "builtin", "messages": MESSAGES, "stream": stream} | more
            )
        assert caught.value.code == code
        assert caught.value.body["message"]
