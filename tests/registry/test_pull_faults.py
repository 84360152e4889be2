"""Pulls from servers that fail, lie or stop, beside other pulls, and with too little room."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault
from mull.errors import (
    Cancelled,
    DigestMismatch,
    DiskFull,
    InvalidName,
    ModelNotFound,
    MullError,
    NotSupported,
    RemoteError,
    Unreachable,
)
from mull.registry.pull import PullOptions, pull
from mull.registry.store import Store
from mull.registry.web import Cancellation, next_address
from mull.settings import Remotes

from .conftest import HASTY, gguf, weights

Get = Callable[..., list]
DATA = gguf(1_000_000)


def statuses(events: list, kind: str = "step") -> list[str]:
    return [event.status for event in events if event.kind == kind]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(cut=1000), Fault(cut=0), Fault(cut=70_000), Fault(cut=1)],
        [Fault(status=503), Fault(status=429, headers={"Retry-After": "0.01"}), Fault(status=500)],
        [Fault(stall=5000), Fault(stall=0)],
        [Fault(status=403)],
        [Fault(status=403), Fault(status=403)],
    ],
    ids=["cut", "busy", "stall", "expired", "expired-again"],
)
@pytest.mark.parametrize("connections", [1, 4])
def test_what_passes_is_survived(
    hub: FakeHub, own: Store, get: Get, small_chunks: int, faults: list[Fault], connections: int
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    # An address that has expired is asked for again; the first one must not fail.
    hub.faults += [Fault()] * connections + faults
    get("u/r", connections=connections)
    assert weights(own, "u/r") == DATA


def test_bytes_that_came_are_not_asked_for_again(
    hub: FakeHub, own: Store, get: Get, small_chunks: int
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.faults += [Fault(cut=1000 * i) for i in range(1, 20)]
    get("u/r")
    assert hub.sent() <= len(DATA) + 100_000


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(cut=0), Fault(status=429)], ids=lambda f: str(f.status)
)
def test_a_server_that_fails_for_good(
    hub: FakeHub, own: Store, get: Get, fault: Fault, small_chunks: int
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.faults += [Fault(), Fault(), *[fault] * 200]
    with pytest.raises(RemoteError) as caught:
        get("u/r")
    assert caught.value.hint
    assert own.list() == ()
    hub.faults.clear()
    hub.reset()
    get("u/r")
    assert weights(own, "u/r") == DATA
    assert hub.sent() < len(DATA)


def test_wrong_bytes_are_found(hub: FakeHub, own: Store, get: Get, small_chunks: int) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.faults.append(Fault(flip=True))
    with pytest.raises(DigestMismatch, match=r"m-Q4_0.gguf is not what was announced"):
        get("u/r")
    assert own.list() == ()
    get("u/r")
    assert weights(own, "u/r") == DATA


def test_wrong_bytes_of_a_small_file_are_found_by_gits_name(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("u/st", **{"config.json": b'{"a": 1}', "model.safetensors": DATA[:3000]})
    hub.faults.append(Fault(flip=True))
    with pytest.raises(DigestMismatch):
        get("u/st")
    assert own.list() == ()


def test_a_damaged_partial_is_fetched_again(hub: FakeHub, own: Store, get: Get, small_chunks: int) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.faults += [Fault(), *[Fault(status=500)] * 100]
    with pytest.raises(RemoteError):
        get("u/r", connections=1)
    hub.faults.clear()
    (partial,) = (
        path
        for path in (own.root / "partial").iterdir()
        if path.name.startswith("sha256") and not path.suffix
    )
    with open(partial, "r+b") as file:
        file.write(b"XXXX")
    events = get("u/r")
    assert "damaged" in statuses(events, "warning")[0]
    assert weights(own, "u/r") == DATA


@pytest.mark.parametrize("pretend", [len(DATA) + 7, len(DATA) - 7])
def test_a_file_of_another_size_than_announced(hub: FakeHub, own: Store, get: Get, pretend: int) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.faults += [Fault(pretend=pretend)] * 9
    with pytest.raises(RemoteError, match="not the announced"):
        get("u/r")
    assert own.list() == ()


def test_a_list_that_lies_about_sizes(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})

    def shorter(entry: dict) -> dict:
        entry["lfs"]["size"] = len(DATA) - 1000
        return entry

    hub.lies["m-Q4_0.gguf"] = shorter
    with pytest.raises(RemoteError, match="not the announced"):
        get("u/r")
    assert own.list() == ()


@pytest.mark.parametrize("name", ["../../evil.safetensors", "..", "a\x1b[2J.safetensors"])
def test_names_that_leave_the_folder(hub: FakeHub, own: Store, get: Get, name: str, tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": name}}).encode()
    hub.add("u/st", **{"config.json": b"{}", "model.safetensors.index.json": index, name: DATA})
    with pytest.raises(MullError):
        get("u/st")
    assert own.list() == ()
    assert not list(tmp_path.rglob("*evil*"))


def test_a_digest_that_is_none(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.lies["m-Q4_0.gguf"] = lambda entry: {**entry, "lfs": {**entry["lfs"], "sha256": "../../x"}}
    with pytest.raises(RemoteError, match="is not a digest"):
        get("u/r")


def test_a_repository_with_nothing_to_use(hub: FakeHub, get: Get) -> None:
    hub.add("u/b", **{"pytorch_model.bin": DATA, "config.json": b"{}"})
    with pytest.raises(NotSupported, match="no file that can be used") as caught:
        get("u/b")
    assert "pytorch_model.bin, config.json" in str(caught.value.hint)
    assert "pickled" in str(caught.value.hint)


def test_a_name_that_is_nowhere_says_where_else_to_look(hub: FakeHub, get: Get) -> None:
    hub.add("u/pocket-r", **{"m-Q4_0.gguf": DATA})
    get("u/pocket-r")
    with pytest.raises(ModelNotFound) as caught:
        get("u/pocket-x")
    hint = str(caught.value.hint)
    assert "llm search" in hint
    assert "ollama.com/u/pocket-x" in hint
    assert "on this machine: hf.co/u/pocket-r:latest" in hint


def test_a_quantization_that_is_not_there(hub: FakeHub, get: Get) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    with pytest.raises(ModelNotFound, match="u/r has no Q9_9") as caught:
        get("u/r:Q9_9")
    assert caught.value.hint == "it has Q4_0 (1.0 MB)"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_metadata_is_asked_for_again(hub: FakeHub, own: Store, get: Get, status: int) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.api_faults += [Fault(status=status)] * 2
    get("u/r")
    assert weights(own, "u/r") == DATA
    hub.api_faults += [Fault(status=status)] * 9
    with pytest.raises(RemoteError, match=str(status)):
        get("u/r")


def test_metadata_that_is_garbage(hub: FakeHub, get: Get) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.lies["m-Q4_0.gguf"] = lambda entry: {"no": "name"}
    with pytest.raises(RemoteError, match="sent no list"):
        get("u/r")


def test_without_a_network(hub: FakeHub, own: Store, get: Get, remotes: Remotes) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    get("u/r")
    gone = replace(remotes, hf_endpoint="http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="cannot reach 127") as caught:
        pull("u/other", PullOptions(patience=HASTY), store=own, remotes=gone)
    assert "on this machine: hf.co/u/r:latest" in str(caught.value.hint)
    with pytest.raises(Unreachable, match="HF_HUB_OFFLINE"):
        pull("u/other", store=own, remotes=replace(remotes, offline=True))


def test_a_full_disk_is_told_before_anything_comes(
    hub: FakeHub, own: Store, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    monkeypatch.setattr("mull.registry.pull.free_bytes", lambda folder: 999_999)
    with pytest.raises(DiskFull, match="are still to come"):
        get("u/r")
    assert not [asked for asked in hub.asked if asked.server == "cdn"]


def test_a_disk_that_fills_up_keeps_what_came(
    hub: FakeHub, own: Store, get: Get, monkeypatch: pytest.MonkeyPatch, small_chunks: int
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    written = [0]
    write = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if written[0] > 500_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        written[0] += len(data)
        return write(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DiskFull, match="no space left"):
            get("u/r")
    assert own.list() == ()
    hub.reset()
    get("u/r")
    assert weights(own, "u/r") == DATA
    assert hub.sent() <= len(DATA) - 500_000


def test_a_proxy_that_is_not_there(own: Store, remotes: Remotes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    far = replace(remotes, hf_endpoint="http://hub.invalid")
    with pytest.raises(Unreachable, match="cannot reach hub") as caught:
        pull("u/r", PullOptions(patience=HASTY), store=own, remotes=far)
    assert "proxy" in str(caught.value.hint)


def test_a_proxy_is_used(hub: FakeHub, own: Store, remotes: Remotes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    with pytest.raises(ModelNotFound):
        pull("ms://u/r", store=own, remotes=replace(remotes, modelscope_endpoint="http://hub.invalid"))
    assert hub.asked[0].path.startswith("http://hub.invalid/api/v1/models/u/r")


def test_a_hub_that_never_answers(hub: FakeHub, own: Store, remotes: Remotes) -> None:
    hub.api_faults.append(Fault(stall=0))
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    pull("u/r", PullOptions(patience=HASTY), store=own, remotes=remotes)
    assert weights(own, "u/r") == DATA


def test_a_redirect_that_gives_up_encryption() -> None:
    with pytest.raises(RemoteError, match="without encryption"):
        next_address("https://example.com/a", "http://example.com/b")
    assert next_address("https://example.com/a", "/b") == "https://example.com/b"


# Together


def test_two_pulls_share_one_transfer(hub: FakeHub, own: Store, remotes: Remotes, small_chunks: int) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.add("u/copy", **{"n-Q4_0.gguf": DATA})
    hub.pause = 0.01
    failed: list[BaseException] = []

    def one(name: str) -> None:
        try:
            pull(name, PullOptions(patience=HASTY), store=own, remotes=remotes)
        except MullError as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(name,)) for name in ("u/r", "u/copy", "u/r")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert hub.sent() == len(DATA)
    assert {entry.name.short() for entry in own.list()} == {"hf.co/u/r:latest", "hf.co/u/copy:latest"}


def test_cancelling_keeps_what_came(hub: FakeHub, own: Store, remotes: Remotes, small_chunks: int) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.faults += [Fault()] * 4 + [Fault(stall=9000)] * 8
    wish = Cancellation()

    def watch(event: object) -> None:
        if (getattr(event, "completed", None) or 0) > 4 * small_chunks:
            wish.cancel()

    with pytest.raises(Cancelled):
        pull("u/r", PullOptions(), store=own, remotes=remotes, report=watch, cancelled=wish)
    assert own.list() == ()
    came = hub.sent()
    hub.faults.clear()
    pull("u/r", PullOptions(), store=own, remotes=remotes)
    assert weights(own, "u/r") == DATA
    assert hub.sent() - came <= len(DATA) - 4 * small_chunks


def test_a_model_removed_meanwhile_comes_again(hub: FakeHub, own: Store, get: Get, remotes: Remotes) -> None:
    hub.add("u/a", **{"m-Q4_0.gguf": DATA})
    hub.add("u/b", **{"m-Q4_0-00001-of-00002.gguf": DATA, "m-Q4_0-00002-of-00002.gguf": gguf(9000, 5)})
    get("u/a")
    events: list = []

    def meddle(event: object) -> None:
        events.append(event)
        if event.status == "writing manifest" and own.list():  # type: ignore[attr-defined]
            own.remove("u/a")

    pull("u/b", PullOptions(patience=HASTY), store=own, remotes=remotes, report=meddle)
    first = own.model_path(own.resolve("u/b"))
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(DATA).digest()


def test_a_name_that_is_none(get: Get) -> None:
    with pytest.raises(InvalidName):
        get("u/r", rename="a b")


def test_pulling_removing_and_copying_at_once(
    hub: FakeHub, own: Store, remotes: Remotes, small_chunks: int
) -> None:
    hub.add("u/a", **{"m-Q4_0.gguf": DATA, "params": b"{}"})
    hub.add("u/b", **{"n-Q4_0.gguf": DATA})
    failed: list[BaseException] = []

    def repeat(step: Callable[[], object]) -> None:
        for _ in range(6):
            try:
                step()
            except ModelNotFound:
                pass  # another thread was faster
            except MullError as error:
                failed.append(error)

    options = PullOptions(patience=HASTY, connections=2)
    steps: list[Callable[[], object]] = [
        lambda: pull("u/a", options, store=Store(own.root, bundled=None), remotes=remotes),
        lambda: pull("u/b", options, store=Store(own.root, bundled=None), remotes=remotes),
        lambda: Store(own.root, bundled=None).remove("u/a"),
        lambda: Store(own.root, bundled=None).copy("u/b", "copy"),
        lambda: Store(own.root, bundled=None).prune(grace=0.0),
    ]
    threads = [threading.Thread(target=repeat, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for entry in own.list():
        assert own.model_path(own.find(entry.name).manifest).read_bytes() == DATA
    assert weights(own, "u/b") == DATA
