"""The endpoints of the anthropic dialect."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
