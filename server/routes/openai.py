"""The endpoints of the openai dialect."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
