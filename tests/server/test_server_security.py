"""Who may ask what, item by item."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from serving import PATIENCE_S, Served, serving, slow

from cf_local.errors import BrokenModelError, CfLocalError, ConfigError, MissingModelError
from cf_local.registry.registry import load_registry
from cf_local.server import web
from cf_local.server.app import Server
from cf_local.server.catalogue import Catalogue
from cf_local.server.serve_options import ServeOptions

SITE = "https://chat.example"
KEY = "a-secret-key"
SECRET = "my diary"
CHAT = "/v1/chat/completions"
NEED_NO_KEY = {"/health", "/openapi.json"}
ROUTES = sorted(
    (method, route.path.replace("{id:path}", "x").replace("{id}", "x"))
    for route in Server(Catalogue(load_registry()), slow(), ServeOptions()).app.routes
    if isinstance(route, APIRoute)
    for method in route.methods
)
"""Every method of every endpoint that the server has, so that a new one is tested, too."""
POSTS = [path for method, path in ROUTES if method == "POST"]
ANY_REQUEST = {
    "messages": [{"role": "user", "content": "Well?"}],
    "max_tokens": 5,
    "prompt": "Well?",
    "input": "Well?",
    "tokens": [5],
}
"""What every endpoint takes: it ignores the fields of others."""
QUESTION = {"model": "builtin", "messages": [{"role": "user", "content": "Well?"}]}


@pytest.fixture(scope="module")
def scripted() -> Iterator[Served]:
    with serving(slow(" fox.", pass_s=0), body_bytes=2000, body_s=0.3) as served:
        yield served


@pytest.fixture(scope="module")
def keyed() -> Iterator[Served]:
    with serving(slow(" fox.", pass_s=0), api_key=KEY, allowed_origins=(SITE,)) as served:
        yield served


def raw(served: Served, sent: bytes) -> tuple[int, bytes]:
    """Status and body of what comes back for these very bytes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as sock:
        sock.sendall(sent)
        response = http.client.HTTPResponse(sock)
        response.begin()
        return response.status, response.read()


def test_only_this_machine_reaches_it_unless_told_otherwise() -> None:
    assert ServeOptions().host == "127.0.0.1"
    with serving(slow()) as served:
        listening = served.runner._bound.getsockname()
        assert listening[0] == "127.0.0.1"


# --- Host: DNS rebinding --------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "LOCALHOST", "[::1]:80"])
def test_its_own_names(scripted: Served, host: str) -> None:
    assert scripted.ask("GET", "/v1/models", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8642",
        "192.168.0.7",
        "",
        "localhost@evil.example",
        "localhost/evil",
        "localhost:port",
        "[::1",
        "locälhost",
    ],
)
def test_other_names_are_refused(scripted: Served, host: str) -> None:
    for path in ("/v1/models", "/"):
        got = raw(scripted, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
        assert got[0] == 403
        assert b"host_not_allowed" in got[1]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_endpoint_answers_another_name_or_origin(
    scripted: Served, method: str, path: str
) -> None:
    body = ANY_REQUEST if method == "POST" else None
    for headers in ({"Host": "evil.example"}, {"Origin": SITE}, {"Origin": "null"}):
        reply = scripted.ask(method, path, body, headers)
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers
    for site in ("cross-site", "same-site"):  # an image in a page, which has no Origin header
        reply = scripted.ask(method, path, body, {"Sec-Fetch-Site": site})
        assert (reply.status == 403) == (path not in NEED_NO_KEY)


def test_no_host_or_two_are_refused(scripted: Served) -> None:
    assert raw(scripted, b"GET / HTTP/1.1\r\n\r\n")[0] == 400
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw(scripted, two)[0] in (400, 403)


def test_a_named_host_is_let_in() -> None:
    with serving(slow(), allowed_hosts=("Box.local",)) as served:
        assert served.ask("GET", "/health", headers={"Host": "box.LOCAL:1"}).status == 200
        assert served.ask("GET", "/health", headers={"Host": "other.local"}).status == 403


def test_addresses_are_let_in_where_others_may_reach_it() -> None:
    with serving(slow(), host="0.0.0.0", api_key=KEY) as served:
        assert served.ask("GET", "/health", headers={"Host": "192.168.0.7:1"}).status == 200
        assert served.ask("GET", "/health", headers={"Host": "evil.example"}).status == 403


# --- Origin and CORS ------------------------------------------------------------------------


def test_other_origins_are_refused(scripted: Served) -> None:
    for origin in (SITE, "null", "http://localhost.evil", f"http://localhost:{scripted.port}x"):
        reply = scripted.ask("POST", CHAT, QUESTION, {"Origin": origin})
        assert (reply.status, reply.error["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in reply.headers
    preflight = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    refused = scripted.ask("OPTIONS", CHAT, headers=preflight)
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers


def test_its_own_page_may_ask(scripted: Served) -> None:
    for host in (f"127.0.0.1:{scripted.port}", f"localhost:{scripted.port}"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert scripted.ask("POST", CHAT, QUESTION, headers).status == 200


def test_a_named_origin_may_ask_and_read(keyed: Served) -> None:
    preflight = {
        "Origin": SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    allowed = keyed.ask("OPTIONS", CHAT, headers=preflight)
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == SITE
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    reply = keyed.ask("POST", CHAT, QUESTION, {"Origin": SITE})  # without its key
    assert reply.status == 401
    assert reply.headers["access-control-allow-origin"] == SITE  # so that the page can read it
    assert keyed.ask("GET", "/health", headers={"Origin": "https://other.example"}).status == 403


# --- The key --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        KEY,
        f"Basic {KEY}",
        "Bearer",
        "Bearer wrong",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
    ],
)
def test_without_the_key_there_are_no_models(keyed: Served, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    for method, path in (("GET", "/v1/models"), ("POST", CHAT), ("GET", "/metrics")):
        reply = keyed.ask(method, path, QUESTION if method == "POST" else None, headers)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_endpoint_needs_the_key(keyed: Served, method: str, path: str) -> None:
    body = ANY_REQUEST | {"model": "nothing"} if method == "POST" else None
    for headers in ({}, {"x-api-key": "wrong"}, {"Authorization": f"Basic {KEY}"}):
        reply = keyed.ask(method, path, body, headers)
        assert (reply.status == 401) == (path not in NEED_NO_KEY)
    for headers in ({"x-api-key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        assert keyed.ask(method, path, body, headers).status != 401


def test_with_the_key_there_are(keyed: Served) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    assert keyed.ask("GET", "/v1/models", headers=headers).status == 200
    assert keyed.ask("POST", CHAT, QUESTION, headers).status == 200
    for path in ("/", "/health", "/openapi.json"):
        assert keyed.ask("GET", path).status == 200


def test_the_key_is_compared_in_constant_time(
    keyed: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    import hmac

    real = hmac.compare_digest
    monkeypatch.setattr(
        "cf_local.server.middleware.hmac.compare_digest",
        lambda a, b: compared.append((a, b)) or real(a, b),
    )
    keyed.ask("GET", "/v1/models", headers={"Authorization": "Bearer nope"})
    assert compared == [(b"nope", KEY.encode())]


def test_the_key_is_in_no_text_of_the_options() -> None:
    assert KEY not in repr(ServeOptions(api_key=KEY))


# --- Bodies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POSTS)
def test_a_long_body_is_refused(scripted: Served, path: str) -> None:
    reply = scripted.ask("POST", path, QUESTION | {"user": "x" * 3000})
    assert (reply.status, b"longer than 2000 bytes" in reply.body) == (413, True)


@pytest.mark.parametrize("path", POSTS)
def test_a_long_body_of_unknown_length_is_refused(scripted: Served, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    sent = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + 5 * chunks
    assert raw(scripted, sent)[0] == 413


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_does_not_come_is_refused(scripted: Served, path: str) -> None:
    start = time.monotonic()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    got = raw(scripted, f'{head}Content-Length: 100\r\n\r\n{{"mo'.encode())
    assert got[0] == 408
    assert 0.2 < time.monotonic() - start < 5


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 1500,
        b'{"a":NaN}',
        b"[]",
        b"null",
        b'"text"',
        b"1" * 1900,
        b'{"model": "builtin"}',
        b'{"model": 7, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "builtin", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "builtin", "messages": [{"role": "user", "content": "x"}], "seed": 1e999}',
    ],
)
def test_what_is_no_request_is_a_400(scripted: Served, body: bytes) -> None:
    for path in (CHAT, "/v1/completions"):
        reply = scripted.ask("POST", path, raw=body, headers={"Content-Type": "application/json"})
        assert reply.status == 400, reply.body
        assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", POSTS)
def test_no_endpoint_takes_what_is_no_json_object(scripted: Served, path: str) -> None:
    is_refused = scripted.ask("POST", path, ANY_REQUEST | {"model": "nothing"}).status == 403
    for body in (b"", b"{", b"\xff\xfe", b"[" * 1500, b'{"a":NaN}', b"[]", b"null", b'"text"'):
        reply = scripted.ask("POST", path, raw=body, headers={"Content-Type": "application/json"})
        assert reply.status == (403 if is_refused and body in (b"[]", b"null", b'"text"') else 400)
    for kind in ("text/plain", "multipart/form-data"):
        reply = scripted.ask("POST", path, ANY_REQUEST, {"Content-Type": kind})
        assert reply.status == 415


def test_what_a_form_on_another_site_can_send_is_refused(scripted: Served) -> None:
    """A page may send these without asking first."""
    sent = json.dumps(QUESTION).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert scripted.ask("POST", CHAT, raw=sent, headers={"Content-Type": kind}).status == 415


def test_programs_for_ollama_need_not_say_that_they_send_json(scripted: Served) -> None:
    sent = json.dumps(QUESTION | {"stream": False}).encode()
    form = "application/x-www-form-urlencoded"
    assert scripted.ask("POST", "/api/chat", raw=sent).status == 200
    for kind, more, status in (
        (form, {}, 200),
        ("text/plain", {}, 415),
        ("multipart/form-data", {}, 415),
        (form, {"Origin": scripted.url}, 415),
        ("", {"Origin": scripted.url}, 415),
        (form, {"Origin": "https://evil.example"}, 403),
    ):
        headers = {"Content-Type": kind} | more
        assert scripted.ask("POST", "/api/chat", raw=sent, headers=headers).status == status


# --- Files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", ["/etc/passwd", "../x.gguf", "a.gguf", "C:\\x.gguf", "org/repo:Q4_K_M", "ash\0", "~"]
)
def test_models_are_only_names_of_the_registry(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []

    def load(*what: Any) -> Any:
        looked_at.append(what)
        raise CfLocalError("no")

    with serving(load) as served:
        reply = served.chat(model=model)
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert looked_at == []


def test_no_error_names_a_path() -> None:
    kinds = (BrokenModelError, MissingModelError, ConfigError, CfLocalError)
    errors = cycle(kind("/home/somebody/models/x.gguf cannot be read.") for kind in kinds)

    def load(*_: Any) -> Any:
        raise next(errors)

    with serving(load) as served:
        for path in POSTS:
            body = ANY_REQUEST | {"model": "all-minilm-l6-v2" if "embed" in path else "builtin"}
            if path == "/v1/responses":  # which has no prompt in this sense
                del body["prompt"]
            for _ in kinds:
                reply = served.ask("POST", path, body)
                assert b"somebody" not in reply.body
                assert reply.status in ((200,) if path == "/api/show" else (403, 404, 503))


def test_a_request_names_no_file(scripted: Served) -> None:
    for more in ({"grammar": "/etc/passwd"}, {"response_format": {"type": "file"}},
                 {"cf_local": {"models": ["/etc/passwd"]}}, {"file": "/etc/passwd"}):  # fmt: skip
        reply = scripted.ask("POST", CHAT, QUESTION | more)
        is_ignored = "Ignored parameters: file" in reply.headers.get("warning", "")
        assert reply.status == (200 if is_ignored else 400)
        assert is_ignored == ("file" in more)
        assert b"root:" not in reply.body


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "web"
    (folder / "vendor").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><script src=app.js></script>")
    (folder / "app.js").write_text("1")
    (folder / "style.css").write_text("b{}")
    (folder / "vendor" / "x.svg").write_text("<svg/>")
    (folder / ".hidden").write_text("secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    page = web.page(folder)
    monkeypatch.setattr("cf_local.server.app.web.page", lambda: page)
    with serving(slow(" fox.", pass_s=0)) as served:
        yield served


def test_the_page_runs_only_its_own_files(page: Served) -> None:
    for path, kind in (
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/vendor/x.svg", "image/svg+xml"),
    ):
        reply = page.ask("GET", path)
        assert (reply.status, reply.headers["content-type"]) == (200, kind)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "connect-src 'self'" in policy
        assert "unsafe" not in policy
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["x-content-type-options"] == "nosniff"
        again = page.ask("GET", path, headers={"If-None-Match": reply.headers["etag"]})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/vendor/..%2f..%2fsecret.txt",
        "/out.txt",
        "/.hidden",
        "//secret.txt",
        "/nothing",
        "/%00",
        "/vendor",
        "/" + "x" * 5000,
    ],
)
def test_the_page_gives_no_other_files(page: Served, path: str) -> None:
    got = raw(page, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert got[0] == 404
    assert b"secret" not in got[1]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/models", "/v1/chat"])
def test_a_path_that_is_not_here_names_the_interface(page: Served, method: str, path: str) -> None:
    reply = page.ask(method, path, {} if method == "POST" else None)
    assert (reply.status, reply.error["code"]) == (404, "unknown_url")
    assert "/v1/chat/completions" in reply.error["message"]


def test_errors_have_the_shape_of_the_interface_that_a_path_belongs_to(keyed: Served) -> None:
    for headers, status, kind in (
        ({}, 401, "authentication_error"),
        ({"x-api-key": KEY}, 404, "not_found_error"),
    ):
        reply = keyed.ask("POST", "/v1/messages/nothing", {}, headers)
        assert (reply.status, reply.json["type"], reply.error["type"]) == (status, "error", kind)
        reply = keyed.ask("POST", "/api/nothing", {}, headers)
        assert (reply.status, type(reply.error)) == (status, str)


# --- The log --------------------------------------------------------------------------------


def test_files_of_the_page_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cf_local.server")
    with serving(slow(" fox.", pass_s=0)) as served:
        for path in ("/", "/app.js", "/nothing.js", "/v1/models"):
            served.ask("GET", path)
    logged = [record.message.split()[1] for record in caplog.records if "GET" in record.message]
    assert logged == ["'/nothing.js'", "'/v1/models'"]


@pytest.mark.parametrize("logs", [False, True])
def test_prompts_are_logged_only_if_asked_for(logs: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "cf_local.server")
    with serving(slow(" fox.", pass_s=0), logs_prompts=logs) as served:
        assert served.chat(SECRET).status == 200
        assert served.chat(SECRET, stream=True).status == 200
        served.chat(SECRET, tools=[{"function": {"name": SECRET}}])
        served.ask("GET", f"/v1/models?{SECRET.replace(' ', '+')}")
    assert "POST '/v1/chat/completions' 200" in caplog.text
    assert (SECRET in caplog.text) == logs


@pytest.mark.parametrize("streams", [False, True])
def test_the_words_of_an_unexpected_error_stay_in_the_server(
    streams: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("cf_local.server.answering.Answerer._next", fail)
    with serving(slow(" fox.", pass_s=0)) as served:
        reply = served.chat(stream=streams)
        assert (reply.status, reply.error["type"]) == (500, "server_error")
        assert b"diary" not in reply.body
        assert served.ask("GET", "/health").status == 200
    assert "RuntimeError" in caplog.text
    assert "diary" not in caplog.text


def test_no_web_sockets(scripted: Served) -> None:
    got = raw(
        scripted,
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert got[0] != 101


def test_many_connections_that_say_nothing_stop_nobody(scripted: Served) -> None:
    socks = [socket.create_connection(("127.0.0.1", scripted.port)) for _ in range(100)]
    assert scripted.ask("POST", CHAT, QUESTION).status == 200
    for sock in socks:
        sock.close()
