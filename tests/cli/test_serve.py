"""`llm serve`'s options: each one, and the variable of its name, arrive at the server; wrong ones are told."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from pathlib import Path

import pytest
from mull.cli import main
from mull.cli.serve_options import ServeFlags
from mull.server.options import ServerOptions
from mull.settings import Settings

# Option -> its text, where it arrives, and as what.
OPTIONS: dict[str, tuple[str, str, object]] = {
    "host": ("0.0.0.0", "host", "0.0.0.0"),
    "port": ("8080", "port", 8080),
    "socket": ("/run/mull.sock", "socket", "/run/mull.sock"),
    "tls_cert": ("cert.pem", "tls_cert", "cert.pem"),
    "tls_key": ("key.pem", "tls_key", "key.pem"),
    "api_key": ("hush", "api_keys", ("hush",)),
    "api_key_file": ("keys", "api_keys", ("one", "two")),
    "origins": ("https://a.test, b.test", "origins", ("https://a.test", "b.test")),
    "parallel": ("3", "parallel", 3),
    "max_queue": ("1K", "max_queue", 1024),
    "models_max": ("2", "models_max", 2),
    "keep_alive": ("1h", "keep_alive", 3600.0),
    "grace": ("5s", "grace", 5.0),
    "num_ctx": ("4K", "load.num_ctx", 4096),
    "overflow": ("oldest", "overflow", "oldest"),
    "think_max": ("1K", "think_max", "1024"),
    "cache_type_k": ("q8_0", "load.cache_type_k", "q8_0"),
    "cache_type_v": ("Q4_0", "load.cache_type_v", "q4_0"),
    "threads": ("2", "load.threads", 2),
    "prompt_cache": ("1G", "load.prompt_cache", 1 << 30),
    "speculate": ("4", "load.speculate", "4"),
    "draft": ("pocket", "load.draft", "pocket"),
    "deterministic": ("1", "load.deterministic", True),
    "log_level": ("debug", "level", "debug"),
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Return what `llm serve` was about to run with: its options, its settings and the level of its log."""
    found: dict[str, object] = {}

    def serve(options: ServerOptions, settings: Settings, announce: object) -> None:
        found.update(options=options, settings=settings)

    monkeypatch.setattr("mull.server.running.serve", serve)
    monkeypatch.setattr("mull.server.running.start_log", lambda level: found.update(level=level))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text("# ours\none\n\ntwo\n")
    return found


def arrived(served: dict[str, object], option: str) -> object:
    where = OPTIONS[option][1]
    if option == "log_level":
        return served["level"]
    return attrgetter(where)(served["settings" if option == "think_max" else "options"])


def test_all_options_are_tested():
    assert {field.name for field in fields(ServeFlags)} == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_arrives(served: dict[str, object], option: str):
    text, _, value = OPTIONS[option]
    flag = f"--{option.replace('_', '-')}"
    more = ["--tls-cert", "cert.pem"] if option == "tls_key" else []
    assert main.run_command(["serve", flag, *([] if option == "deterministic" else [text]), *more]) == 0
    assert arrived(served, option) == value


@pytest.mark.parametrize("option", OPTIONS)
def test_a_variable_arrives(served: dict[str, object], option: str, monkeypatch: pytest.MonkeyPatch):
    text, _, value = OPTIONS[option]
    if option == "think_max":  # a setting of every command, as it stands
        text, value = "1024", "1024"
    monkeypatch.setenv(f"MULL_{option.upper()}", text)
    if option == "tls_key":
        monkeypatch.setenv("MULL_TLS_CERT", "cert.pem")
    assert main.run_command(["serve"]) == 0
    assert arrived(served, option) == value


@pytest.mark.parametrize(
    ("flag", "text", "told"),
    [
        ("--num-ctx", "-5", "--num-ctx must be a whole number"),
        ("--num-ctx", "many", "--num-ctx must be a whole number"),
        ("--think-max", "-1", "--think-max must be a whole number"),
        ("--port", "65536", "--port must be a whole number"),
        ("--keep-alive", "soon", "--keep-alive must be seconds"),
        ("--overflow", "left", "--overflow: 'left' is unknown"),
        ("--draft", "nobody", "model 'nobody' not found"),
        ("--speculate", "often", "'often' is no way to speculate"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    served: dict[str, object], capsys: pytest.CaptureFixture[str], flag: str, text: str, told: str
):
    assert main.run_command(["serve", flag, text]) == 1
    assert f"error: {told}" in capsys.readouterr().err
    assert "options" not in served
