"""Headers fetched by ranges from every kind of source, and servers that send something else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import FakeHub, Fault
from mull.errors import MullError, RemoteError
from mull.models.checkpoint import heads
from mull.models.checkpoint.open import open_checkpoint
from mull.registry.bundled import POCKET
from mull.registry.headers import fetched_headers
from mull.registry.pull import resolve
from mull.registry.push import push
from mull.registry.remote import RemoteBlob
from mull.registry.sources.reference import parse_reference
from mull.registry.store import Store
from mull.registry.web import Web
from mull.settings import Remotes

from .conftest import HASTY

WEIGHTS = POCKET.path.read_bytes()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Ask for small pieces; whatever happens, nothing stays in the folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(heads, "FIRST", 4096)
    yield folder
    assert not list(folder.glob("mull-*"))


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(HASTY) as web:
        yield web


def names(blobs: tuple[RemoteBlob, ...], web: Web) -> list[str]:
    """Return the tensors that headers tell."""
    with fetched_headers(blobs, heads.wanted, web) as path, open_checkpoint(path) as checkpoint:
        return list(checkpoint.infos)


def expected() -> list[str]:
    with open_checkpoint(POCKET.path) as checkpoint:
        return list(checkpoint.infos)


def test_from_a_registry(registry: str, own: Store, remotes: Remotes, tmp_path: Path, web: Web) -> None:
    push("pocket", f"{registry}/me/pocket", store=Store(tmp_path / "with", bundled=POCKET), remotes=remotes)
    model = resolve(parse_reference(f"{registry}/me/pocket"), own, remotes, web)
    assert names(model.blobs, web) == expected()


def test_from_an_address_and_where_nobody_says_how_large_it_is(
    hub: FakeHub, own: Store, remotes: Remotes, web: Web
) -> None:
    hub.files["models/pocket-q8_0.gguf"] = WEIGHTS
    model = resolve(parse_reference(f"{hub.cdn}/files/models/pocket-q8_0.gguf"), own, remotes, web)
    assert names(model.blobs, web) == expected()
    assert names((replace(model.blobs[0], size=None),), web) == expected()
    assert hub.sent() < len(WEIGHTS)


def test_a_size_that_is_a_lie_is_told(hub: FakeHub, own: Store, remotes: Remotes, web: Web) -> None:
    hub.add("u/m", **{"m-Q8_0.gguf": WEIGHTS})
    model = resolve(parse_reference("u/m:Q8_0"), own, remotes, web)
    hub.faults.append(Fault(pretend=len(WEIGHTS) + 1))
    with pytest.raises(RemoteError, match="another range"):
        names(model.blobs, web)


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(cut=10)])
def test_what_does_not_pass_is_given_up(
    fault: Fault, hub: FakeHub, own: Store, remotes: Remotes, web: Web
) -> None:
    hub.add("u/m", **{"m-Q8_0.gguf": WEIGHTS})
    model = resolve(parse_reference("u/m:Q8_0"), own, remotes, web)
    hub.faults.extend([fault] * 20)
    with pytest.raises(MullError):
        names(model.blobs, web)
    hub.faults.clear()
    hub.faults.extend([fault, Fault(whole=True)])
    assert names(model.blobs, web) == expected()
