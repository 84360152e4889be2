"""The endpoints of the ollama dialect."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
