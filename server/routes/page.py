"""The chat page at `/`: three files, no other assets, and a policy that lets it load nothing else."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, PlainTextResponse, Response

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent.parent / "page"
_TYPES = {"page.css": "text/css", "page.js": "text/javascript", "markdown.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/")
@router.head("/")
async def page(request: Request) -> Response:
    """Show the page to a browser, and to every other client what Ollama says there."""
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse("Ollama is running")
    return FileResponse(_FOLDER / "index.html", media_type="text/html", headers=_HEADERS)


@router.get("/page/{name}")
async def asset(name: str) -> Response:
    """Return one of the page's files."""
    if name not in _TYPES:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name, media_type=_TYPES[name], headers=_HEADERS)
