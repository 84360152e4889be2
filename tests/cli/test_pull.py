"""The commands around pulling, run against a hub on loopback: what they print, and how they fail."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, serving
from mull.cli.main import run_command
from mull.cli.terminal import Terminal
from mull.cli.transfers import Transfers
from mull.registry.bundled import POCKET
from mull.registry.events import Event
from mull.registry.store import Store

WEIGHTS = POCKET.path.read_bytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    hub = FakeHub()
    hub.add("u/pocket", **{"pocket-Q8_0.gguf": WEIGHTS})
    hub.add("u/bad", **{"pytorch_model.bin": b"x" * 5000})
    with serving(hub):
        for key in (
            "HF_TOKEN",
            "HF_HOME",
            "HF_HUB_CACHE",
            "OLLAMA_MODELS",
            "MULL_ENDPOINT_TOKEN",
            "XDG_CACHE_HOME",
        ):
            monkeypatch.delenv(key, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run_command(list(args))
    out, err = capsys.readouterr()
    return code, out, err


def test_pull_piped_says_each_step_once(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "pull", "u/pocket")
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "pulling manifest",
        "Q8_0: the only one there is",
        "pocket-Q8_0.gguf: 2.0 MB",
        "writing manifest",
        "success",
    ]
    shown = json.loads(run(capsys, "list", "--json")[1])
    assert shown[0]["details"] == {
        "format": "gguf", "family": "qwen3", "parameter_size": "1.90M", "quantization_level": "Q8_0",
    }  # fmt: skip


def test_quiet_says_nothing(hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "pull", "-q", "u/pocket", "--as", "mine") == (0, "", "")
    assert run(capsys, "list", "-q")[1] == "mine:latest\n"


def test_json_is_ollamas_status_objects(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "pull", "--json", "u/pocket")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert (events[0]["status"], events[-1]) == ("pulling manifest", {"status": "success"})
    last = [event for event in events if event["status"].startswith("pulling ") and "digest" in event][-1]
    assert last["completed"] == last["total"] == len(WEIGHTS)


def test_one_that_fails_keeps_no_other_from_coming(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "pull", "u/bad", "no/such", "u/pocket")
    assert code == 1
    assert "error: u/bad: u/bad has no file that can be used\nhint: only GGUF and safetensors" in err
    assert "error: no/such: " in err
    assert run(capsys, "list", "-q")[1] == "hf.co/u/pocket:latest\n"


def test_an_error_is_two_lines(hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "pull", "-q", "u/bad")
    assert (code, out) == (1, "")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("pull", "a", "b", "--as", "c"), "--as names one model"),
        (("pull", ""), "the model is empty"),
        (("pull", "ftp://x"), "no models come from ftp://"),
        (("push", "none", "127.0.0.1:1/a/b"), "model 'none' not found"),
        (("verify", "none"), "model 'none' not found"),
    ],
)
def test_wrong_words(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], said: str
) -> None:
    code, _, err = run(capsys, *args)
    assert code == 1
    assert said in err


def test_pulled_models_answer_to_what_was_typed(
    hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "pull", "-q", "u/pocket")
    for name in ("u/pocket", "hf.co/u/pocket", "huggingface.co/u/pocket", "U/Pocket:latest"):
        assert run(capsys, "show", name)[0] == 0
    assert run(capsys, "cp", "u/pocket", "mine")[0] == 0
    assert run(capsys, "rm", "u/pocket") == (0, "deleted 'u/pocket'\n", "")
    assert run(capsys, "list", "-q")[1] == "mine:latest\n"


def test_verify_and_repair(hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "pull", "-q", "u/pocket")
    assert run(capsys, "verify") == (0, "1 model is whole\n", "")
    path = store.model_path(store.resolve("u/pocket"))
    path.write_bytes(b"GGUX" + WEIGHTS[4:])
    code, out, err = run(capsys, "verify")
    assert (code, err) == (1, "hint: llm repair\n")
    assert out.startswith("hf.co/u/pocket:latest: sha256:")
    assert json.loads(run(capsys, "verify", "--json")[1])["damaged"][0]["reason"] == "its bytes were changed"
    assert run(capsys, "repair", "u/pocket")[:2] == (0, "1 of 1 damaged files repaired\n")
    assert run(capsys, "verify", "-q") == (0, "", "")


def test_outdated(hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "pull", "-q", "u/pocket")
    assert "up to date" in run(capsys, "outdated")[1]
    assert run(capsys, "outdated", "-q")[1] == ""
    hub.add("u/pocket", **{"pocket-Q8_0.gguf": WEIGHTS + b"more"})
    assert run(capsys, "outdated", "-q")[1] == "hf.co/u/pocket:latest\n"
    assert json.loads(run(capsys, "outdated", "--json")[1])[0]["status"] == "newer"


def test_search(hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "search", "-q", "pocket") == (0, "u/pocket\n", "")
    assert json.loads(run(capsys, "search", "--json", "pocket")[1])[0]["downloads"] == 7
    code, out, err = run(capsys, "search", "nothing")
    assert (code, out, err) == (0, "", "nothing on Hugging Face is called 'nothing'\n")


def test_search_for_what_is_no_text(hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "search", "a\udcff")[0] == 0


def test_du_and_prune(hub: FakeHub, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "pull", "-q", "u/pocket")
    (store.root / "partial" / "sha256-x").write_bytes(b"x" * 5000)
    store.add_blob(b"y" * 5000)
    found = json.loads(run(capsys, "du", "--json")[1])["bytes"]
    assert (found["unfinished"], found["unused"]) == (8192, 8192)
    assert run(capsys, "prune", "-n")[1] == "would free 16 KB: 8.2 KB of downloads, 1 unused files\n"
    assert run(capsys, "prune")[1] == "freed 16 KB: 8.2 KB of downloads, 1 unused files\n"
    assert (
        run(capsys, "prune", "--json")[1]
        == json.dumps({"dry_run": False, "downloads": 0, "blobs": {}, "bytes": 0}, indent=2) + "\n"
    )
    assert run(capsys, "verify", "-q")[0] == 0


def test_list_all_shows_where_models_are(
    hub: FakeHub,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "studio" / "maker" / "Tiny-GGUF"
    folder.mkdir(parents=True)
    (folder / "Tiny-Q8_0.gguf").write_bytes(WEIGHTS)
    monkeypatch.setenv("MULL_LMSTUDIO", str(tmp_path / "studio"))
    run(capsys, "pull", "-q", "u/pocket")
    assert run(capsys, "list", "-q")[1] == "hf.co/u/pocket:latest\n"
    out = run(capsys, "list", "--all")[1]
    assert f"LM Studio: {folder}/Tiny-Q8_0.gguf" in out
    assert str(store.root) in out
    others = json.loads(run(capsys, "list", "--all", "--json", "maker")[1])
    assert [(model["name"], model["owner"]) for model in others] == [("maker/Tiny-GGUF:Q8_0", "LM Studio")]
    assert run(capsys, "show", "maker/tiny-gguf")[0] == 0


# The bars


def terminal(tty: bool) -> Terminal:
    return Terminal(io.StringIO(), io.StringIO(), tty, tty, False)


def progress(done: int, name: str = "a.gguf") -> Event:
    return Event("pulling x", "progress", "sha256:x", 10**9, done, rate=2e6, seconds_left=70.0, name=name)


def test_a_pipe_gets_a_line_every_ten_seconds() -> None:
    screen, now = terminal(False), [0.0]
    transfers = Transfers(screen, clock=lambda: now[0])
    for second in range(25):
        now[0] = float(second)
        transfers.show(progress(second * 10**7))
    transfers.show(progress(10**9))
    transfers.show(progress(10**9))
    assert screen.err.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "a.gguf: 100 MB of 1 GB, 2 MB/s, 1:10 left",
        "a.gguf: 200 MB of 1 GB, 2 MB/s, 1:10 left",
        "a.gguf: 1 GB",
    ]


@pytest.mark.parametrize("width", [120, 80, 60, 40, 20])
def test_bars_fit_their_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.cells import cell_len
    from rich.console import Console

    monkeypatch.setattr(Console, "width", property(lambda self: width))
    screen = terminal(True)
    transfers = Transfers(screen)
    transfers.show(progress(5 * 10**8, "a-model-with-a-rather-long-name-Q4_K_M.gguf"))
    bars = transfers._bars
    assert bars is not None
    plain = Console(file=io.StringIO(), width=width)
    plain.print(bars.get_renderable())
    transfers.close()
    line = plain.file.getvalue().rstrip("\n")  # type: ignore[attr-defined]
    assert "\n" not in line
    assert cell_len(line) <= width
    assert "50%" in line
    assert "Q4_K_M.gguf"[-6:] in line
    for least, text in ((44, "500 MB of 1 GB"), (58, "2 MB/s"), (68, "1:10")):
        assert (text in line) == (width >= least)


def test_names_from_elsewhere_cannot_write_to_the_terminal() -> None:
    screen = terminal(False)
    transfers = Transfers(screen)
    transfers.show(Event("note \x1b[2J", "note"))
    transfers.show(Event("x", "progress", None, 5, 5, name="\x1b]0;x\x07.gguf"))
    assert "\x1b" not in screen.err.getvalue()  # type: ignore[attr-defined]


def test_layers_of_two_models_have_the_same_name() -> None:
    screen = terminal(False)
    transfers = Transfers(screen)
    for digest in ("sha256:a", "sha256:b", "sha256:b"):
        transfers.show(Event("pulling", "progress", digest, 5, 5, name="model"))
    assert screen.err.getvalue() == "model: 5 B\n" * 2  # type: ignore[attr-defined]
