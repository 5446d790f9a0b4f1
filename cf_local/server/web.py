"""The page at ``/``: the files of the folder ``web``, or a few lines if there are none."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(__file__).parent / "web"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The page runs and requests nothing but the server's own files and interface."""

_HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-cache",  # the ETag says whether it changed
    "x-frame-options": "DENY",
}
# The system's own table is unreliable: on Windows, programs change it.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_NO_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>cf-local</title>
<h1>cf-local</h1>
<p>This server speaks OpenAI's interface: point a client at <code>/v1</code>.
<a href="/openapi.json">/openapi.json</a> describes it.</p></html>
"""


def page(folder: Path = FOLDER) -> ASGIApp:
    """The ASGI app for requests that are not for the interface."""
    if (folder / "index.html").is_file():
        return _Files(directory=folder, html=True)
    return _no_page


class _Files(StaticFiles):
    """Static files with a strict policy, correct types, and caches that must revalidate."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file at a path. Raises HTTPException for hidden and missing files."""
        if any(part.startswith(".") and part != "." for part in Path(path).parts):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        name = "index.html" if path == "." else path
        if (kind := _TYPES.get(Path(name).suffix.lower())) and response.status_code == 200:
            response.headers["content-type"] = kind
        response.headers.update(_HEADERS)
        return response


async def _no_page(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] != "/":
        raise HTTPException(404)
    if scope["method"] not in ("GET", "HEAD"):
        raise HTTPException(405, headers={"Allow": "GET, HEAD"})
    await HTMLResponse(_NO_PAGE, headers=_HEADERS)(scope, receive, send)
