"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real tokenizers and templates beside the checkout; skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("shared/data is not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command under test find a server that happens to run on this machine."""
    for name in ("OLLAMA_HOST", "MULL_PORT", "MULL_SOCKET", "MULL_API_KEY", "MULL_TLS_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MULL_HOST", "127.0.0.1:9")  # the port of the discard protocol: nobody listens


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run: GPU tests without CUDA, peer tests without llama-cpp-python.

    What takes minutes is skipped too, unless `-m` asks for it.
    """
    markers = {marker for item in items for marker in ("gpu", "peer") if marker in item.keywords}
    missing = {}
    if "gpu" in markers and not _has_cuda():
        missing["gpu"] = "needs a CUDA device"
    if "peer" in markers and not _has_llama_cpp():
        missing["peer"] = "needs llama-cpp-python: make test-peers"
    if "slow" not in str(config.getoption("markexpr")):
        missing["slow"] = "takes minutes: pytest -m slow"
    for item in items:
        for marker, reason in missing.items():
            if marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_llama_cpp() -> bool:
    try:
        import llama_cpp  # noqa: F401  # fails where the package came without its library
    except (ImportError, OSError, RuntimeError):
        return False
    return True
