"""Pulls that meet numbers which are none, tokens which are none, files cut short, and servers that say nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import FakeHub
from mull.errors import (
    MullError,
    RemoteError,
    Unreachable,
)
from mull.registry.download import Download
from mull.registry.events import silent
from mull.registry.partial import Partial
from mull.registry.pull import pull, resolve
from mull.registry.sites import Anyone
from mull.registry.sources.reference import parse_reference
from mull.registry.store import Store
from mull.registry.web import Patience, Web
from mull.settings import Remotes, load_remotes

from .conftest import HASTY, gguf, weights

Get = Callable[..., list]
DATA = gguf(1_000_000)


@pytest.mark.parametrize("size", ["12", 1.5, True])
def test_a_size_that_is_no_number_is_none(hub: FakeHub, own: Store, get: Get, size: object) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA, "n-Q8_0.gguf": DATA})
    hub.lies["m-Q4_0.gguf"] = lambda entry: {**entry, "lfs": {**entry["lfs"], "size": size}}
    with pytest.raises(RemoteError, match="does not say how large"):
        get("u/r:Q4_0")
    hub.add("u/small", **{"m-Q4_0.gguf": gguf(100), "params": b"{}"})
    hub.lies = {"params": lambda entry: {**entry, "blobId": 7}}
    get("u/small")


def test_what_was_cut_short_in_the_store_comes_again(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    get("u/r")
    os.truncate(own.model_path(own.resolve("u/r")), 1000)
    get("u/r")
    assert weights(own, "u/r") == DATA


def test_counters_that_were_cut_short_begin_anew(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    folder, key = own.root / "partial", f"sha256-{hashlib.sha256(DATA).hexdigest()}"
    folder.mkdir(parents=True)
    (folder / key).write_bytes(bytes(len(DATA)))
    for length in (9, 60, 67):
        (folder / f"{key}.ranges").write_bytes(b"MULLPRT1" + bytes(length - 8))
        assert Partial(folder, key).peek() == 0
    get("u/r")
    assert weights(own, "u/r") == DATA


def test_another_process_takes_what_is_looked_at(
    hub: FakeHub, own: Store, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever brought a file makes a blob of it while another, who waited for the lock, reads it."""
    hub.files["t.gguf"] = DATA
    with Web(HASTY) as web:
        model = resolve(parse_reference(f"{hub.cdn}/files/t.gguf"), own, load_remotes({}), web)
        first = Download(own.root / "partial", web, lambda digest, size: own.has(digest), silent)
        here = first.run(model.blobs[0])
        assert here.path is not None

        def taken(path: Path, *rest: object) -> tuple[str, int]:
            own.take_blob(path, here.digest)
            raise FileNotFoundError(errno.ENOENT, "gone", str(path))

        monkeypatch.setattr("mull.registry.download.hash_file", taken)
        hub.reset()
        assert first.run(model.blobs[0]) == replace(here, path=None)
    assert hub.asked == []


@pytest.mark.parametrize("token", ["a\nb", "t\xf6ken"])
def test_a_token_that_no_header_carries_is_not_shown(
    hub: FakeHub, own: Store, remotes: Remotes, token: str
) -> None:
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    with pytest.raises(RemoteError, match="MULL_ENDPOINT_TOKEN holds no token") as caught:
        pull("u/r", store=own, remotes=replace(remotes, endpoint_token=token))
    assert token not in str(caught.value)


def test_a_wait_for_an_answer_ends_when_the_transfer_does() -> None:
    """A server that takes a request and says nothing must not keep Ctrl-C waiting."""
    failed: list[MullError] = []
    with socket.create_server(("127.0.0.1", 0)) as server, Web(Patience(stall=3600.0, tries=1)) as web:

        def ask() -> None:
            try:
                web.fetch(f"http://127.0.0.1:{server.getsockname()[1]}/", Anyone())
            except MullError as error:
                failed.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        with server.accept()[0] as connection:
            assert connection.recv(10)
            web.stop()
            thread.join(30)
    assert not thread.is_alive()
    assert [type(error) for error in failed] == [Unreachable]
