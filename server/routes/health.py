"""Whether the server is well, and what it has done."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

router = APIRouter(tags=["server"])


@router.get("/health")
@router.get("/v1/health", include_in_schema=False)
async def health(request: Request) -> JSONResponse:
    """Say that the server answers; 503 while it ends."""
    pool = request.app.state.pool
    if pool.is_closing:
        return JSONResponse({"status": "ending"}, status_code=503)
    return JSONResponse({"status": "ok", "models": len(pool.loaded), "running": pool.running})


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the server's counters for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
