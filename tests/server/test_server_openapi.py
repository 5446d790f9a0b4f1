"""The OpenAPI description: valid, and what it promises holds for requests made up from it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serving import Served, serving, slow

schemathesis = pytest.importorskip("schemathesis", reason="needs the schemathesis package")

from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from cf_local.server.openapi import description  # noqa: E402

N_EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "80"))
# A schema cannot say that some fields exclude each other, or which grammars can be kept.
EXCLUDED = [positive_data_acceptance]
OPERATIONS = [
    (method.upper(), path)
    for path, methods in description(needs_key=False)["paths"].items()
    for method in methods
    if method != "parameters"
]


@pytest.fixture(scope="module")
def described() -> Iterator[Served]:
    with serving(slow(" fox ran.", pass_s=0)) as served:
        yield served


@pytest.fixture(scope="module")
def api() -> Any:
    return schemathesis.openapi.from_dict(description(needs_key=False))


@pytest.mark.parametrize("kind", ["positive", "negative"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_made_up_requests_keep_the_promises(
    method: str, path: str, kind: str, described: Served, api: Any
) -> None:
    mode = schemathesis.GenerationMode(kind)
    if kind == "negative" and method == "GET":
        pytest.skip("takes no body")
    counts: Counter[int] = Counter()

    @settings(max_examples=N_EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if kind == "positive" and isinstance(case.body, dict):
            case.body["model"] = "builtin"  # which nobody guesses
        response = case.call(base_url=described.url, timeout=30)
        counts[response.status_code] += 1
        assert response.status_code < 500, response.text
        case.validate_response(response, excluded_checks=EXCLUDED)

    check()
    if method == "POST":
        assert counts[200 if kind == "positive" else 400] > N_EXAMPLES / 4, counts


def test_the_description_says_where_a_key_is_needed() -> None:
    open_one, keyed = description(needs_key=False), description(needs_key=True)
    assert "security" not in open_one
    assert keyed["security"] == [{"key": []}]
    assert keyed["paths"]["/health"]["get"]["security"] == []
    assert "security" not in keyed["paths"]["/v1/models"]["get"]


def test_every_route_is_described(described: Served) -> None:
    routes = {str(getattr(route, "path", "")) for route in described.server.app.routes}
    told = set(description(needs_key=False)["paths"])
    assert told == {path.replace("{id:path}", "{id}") for path in routes if path}
