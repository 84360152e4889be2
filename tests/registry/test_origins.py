"""Stored models against their sources: verified, repaired, and compared with what is newer; and what takes room."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault
from mull.errors import RemoteError
from mull.registry.disk import hash_file
from mull.registry.events import Event, silent
from mull.registry.origins import news, repair, verify
from mull.registry.partial import Partial, pulling
from mull.registry.store import Store
from mull.registry.usage import drop_unfinished, unfinished, unused_blobs, usage
from mull.registry.web import Web
from mull.settings import Remotes

from .conftest import HASTY, gguf

DATA = gguf(300_000)
Get = Callable[..., list]


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(HASTY) as web:
        yield web


@pytest.fixture
def stored(hub: FakeHub, own: Store, get: Get) -> Store:
    """A store with a GGUF, a folder, and a model that was made here."""
    hub.add("u/r", **{"m-Q4_0.gguf": DATA})
    hub.add("u/st", **{"config.json": b'{"a": 1}', "model.safetensors": gguf(20_000, 3)})
    get("u/r")
    get("u/st")
    own.copy("u/r", "copy")
    return own


def damage(store: Store, name: str, place: int = 0, data: bytes | None = None) -> None:
    layer = store.find(name, whole=False).manifest.layers[place]
    path = store.blob_path(layer.digest)
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def status(store: Store, remotes: Remotes, web: Web) -> dict[str, str]:
    return {item.entry.name.model: item.status for item in news(store, store.list(), remotes, web)}


def test_whole_models_are_whole(stored: Store) -> None:
    assert list(verify(stored, stored.list(), silent)) == []


def test_damage_is_found_and_repaired(stored: Store, hub: FakeHub, remotes: Remotes, web: Web) -> None:
    damage(stored, "u/r", 0, b"X" + DATA[1:])
    damage(stored, "u/st", 1, b"{}")
    damage(stored, "u/st", 0)
    damages = list(verify(stored, stored.list(), silent))
    assert {found.reason for found in damages} == {
        "its bytes were changed",
        "has 2 bytes, and not 8",
        "missing",
    }
    assert ("copy:latest", "hf.co/u/r:latest") in {tuple(sorted(found.names)) for found in damages}
    assert repair(stored, stored.list(), damages, remotes, web, silent) == []
    assert list(verify(stored, stored.list(), silent)) == []
    assert stored.model_path(stored.resolve("copy")).read_bytes() == DATA


def test_what_the_source_has_no_more_stays_damaged(
    stored: Store, hub: FakeHub, remotes: Remotes, web: Web
) -> None:
    damage(stored, "u/r")
    hub.repos["u/r"]["m-Q4_0.gguf"] = gguf(300_000, 9)
    entries = stored.list()
    damages = list(verify(stored, entries, silent))
    assert len(repair(stored, entries, damages, remotes, web, silent)) == 1


def test_a_file_of_this_machine_is_its_own_source(
    own: Store, get: Get, remotes: Remotes, web: Web, tmp_path: Path
) -> None:
    (tmp_path / "m.gguf").write_bytes(DATA)
    get(str(tmp_path / "m.gguf"), rename="m")
    path = own.model_path(own.resolve("m"))
    path.unlink()
    path.write_bytes(b"other")
    damages = list(verify(own, own.list(), silent))
    assert len(damages) == 1
    assert repair(own, own.list(), damages, remotes, web, silent) == []
    assert path.read_bytes() == DATA


def test_one_that_cannot_be_repaired_keeps_no_other_from_it(
    stored: Store, hub: FakeHub, remotes: Remotes, web: Web
) -> None:
    damage(stored, "u/r")
    damage(stored, "u/st")
    del hub.repos["u/r"]
    told: list[Event] = []
    entries = stored.list()
    left = repair(stored, entries, list(verify(stored, entries, silent)), remotes, web, told.append)
    assert [damaged.names for damaged in left] == [("copy:latest", "hf.co/u/r:latest")]
    warnings = [event.status for event in told if event.kind == "warning"]
    assert sorted(warning.partition(": ")[0] for warning in warnings) == ["copy:latest", "hf.co/u/r:latest"]


def test_what_the_disk_does_not_give_is_damage(
    stored: Store, hub: FakeHub, remotes: Remotes, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = stored.find("u/r").manifest.layers[0].digest

    def read(path: Path, progress: object) -> tuple[str, int]:
        if path == stored.blob_path(bad):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return hash_file(path)

    with monkeypatch.context() as patched:
        patched.setattr("mull.registry.origins.hash_file", read)
        damages = list(verify(stored, stored.list(), silent))
    assert [(item.layer.digest, item.reason) for item in damages] == [
        (bad, "cannot be read: input/output error")
    ]
    assert repair(stored, stored.list(), damages, remotes, web, silent) == []


def test_what_is_newer(stored: Store, hub: FakeHub, remotes: Remotes, web: Web) -> None:
    assert status(stored, remotes, web) == {"r": "current", "st": "current", "copy": "current"}
    hub.repos["u/st"]["config.json"] = b'{"a": 2}'
    assert status(stored, remotes, web)["st"] == "newer"
    hub.repos["u/r"]["m-Q4_0.gguf"] = gguf(300_000, 9)
    assert status(stored, remotes, web)["r"] == "newer"
    del hub.repos["u/r"]
    assert status(stored, remotes, web)["r"] == "gone"
    hub.api_faults += [Fault(status=500)] * 100
    assert status(stored, remotes, web)["st"] == "unknown"


def test_what_is_missing_here_is_to_be_had_there(stored: Store, remotes: Remotes, web: Web) -> None:
    layer = next(x for x in stored.find("u/st").manifest.layers if x.title == "config.json")
    stored.blob_path(layer.digest).unlink()
    assert status(stored, remotes, web)["st"] == "newer"


def test_a_model_that_was_made_here_is_asked_of_nobody(
    own: Store, hub: FakeHub, remotes: Remotes, web: Web
) -> None:
    from .test_store import add

    add(own, "llama3.2")
    assert status(own, remotes, web) == {"llama3.2": "local"}
    assert hub.asked == []


def test_an_address_is_compared_by_its_version(
    own: Store, hub: FakeHub, get: Get, remotes: Remotes, web: Web
) -> None:
    hub.files["t.gguf"] = DATA
    get(f"{hub.cdn}/files/t.gguf", rename="t")
    assert status(own, remotes, web) == {"t": "current"}
    hub.files["t.gguf"] = gguf(300_000, 4)
    assert status(own, remotes, web) == {"t": "newer"}


def test_looking_at_downloads_writes_nothing(own: Store) -> None:
    folder = own.root / "partial"
    folder.mkdir(parents=True)
    for key in ("a", "b"):
        (folder / key).write_bytes(bytes(5000))
    with Partial(folder, "a").owned() as mine:
        assert mine
        before = sorted((path.name, path.stat().st_ino) for path in folder.iterdir())
        changed = folder.stat().st_mtime_ns
        assert [(item.key, item.active) for item in unfinished(own)] == [("a", True), ("b", False)]
        assert sorted((path.name, path.stat().st_ino) for path in folder.iterdir()) == before
        assert folder.stat().st_mtime_ns == changed


def test_what_killed_processes_left_goes(own: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own.root / "partial"
    folder.mkdir(parents=True)
    (folder / ".tmp-1-ab").write_bytes(b"x")
    drop_unfinished(own)
    assert list(folder.iterdir()), "its process may still be at it"
    monkeypatch.setattr("mull.registry.usage.GRACE", 0.0)
    drop_unfinished(own)
    assert list(folder.iterdir()) == []


def test_what_is_being_pulled_stays_with_its_finished_parts(own: Store) -> None:
    folder = own.root / "partial"
    folder.mkdir(parents=True)
    for name in ("a.done", "b"):
        (folder / name).write_bytes(bytes(5000))
    with pulling(own.root):
        assert drop_unfinished(own) == 0
        assert len(unfinished(own)) == 2
    assert drop_unfinished(own) > 0
    assert unfinished(own) == []


def test_room(stored: Store, hub: FakeHub, get: Get) -> None:
    by_name = {item.entry.name.model: item for item in usage(stored)}
    assert by_name["r"].size == by_name["copy"].size > len(DATA)
    assert by_name["r"].own == 0 < by_name["st"].own == by_name["st"].size
    hub.add("u/more", **{"m-Q4_0.gguf": gguf(500_000, 7)})
    hub.faults += [Fault(cut=100_000), *[Fault(status=500)] * 50]
    with pytest.raises(RemoteError):
        get("u/more", connections=1)
    (left,) = unfinished(stored)
    assert not left.active
    assert 100_000 <= left.nbytes < 500_000
    digest, _ = stored.add_blob(b"nobody's")
    assert unused_blobs(stored) == {digest: 4096}
    assert drop_unfinished(stored) == left.nbytes
    assert unfinished(stored) == []
    assert stored.prune(grace=0.0) == (digest,)
    assert list(verify(stored, stored.list(), silent)) == []
