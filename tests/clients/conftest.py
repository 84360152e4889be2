"""The servers that real clients talk to: those of the server's own tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[1] / "server" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("server_fixtures", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_fixtures = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _fixtures  # where dataclasses look for it
_SPEC.loader.exec_module(_fixtures)

live, serve, fake_app = _fixtures.live, _fixtures.serve, _fixtures.fake_app
fake_pool = _fixtures.fake_pool
server_settings, server_store = _fixtures.server_settings, _fixtures.server_store
