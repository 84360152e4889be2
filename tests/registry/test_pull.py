"""Models pulled from every kind of source, and tokens that stay where they belong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub, Fault
from mull.errors import (
    ModelNotFound,
    MullError,
    NotSupported,
    RemoteError,
)
from mull.registry.manifest import FILE, MODEL, PARAMS, SYSTEM
from mull.registry.pull import PullOptions, pull
from mull.registry.store import Store
from mull.settings import Remotes

from .conftest import HASTY, gguf, weights

Get = Callable[..., list]
DATA = gguf(1_000_000)


def statuses(events: list, kind: str = "step") -> list[str]:
    return [event.status for event in events if event.kind == kind]


# Sources


def test_a_quantization_of_the_hub(hub: FakeHub, own: Store, get: Get, small_chunks: int) -> None:
    hub.add(
        "u/r",
        **{
            "m-Q4_K_M.gguf": DATA,
            "m-Q8_0.gguf": gguf(9000),
            "system": b"Be brief.",
            "params": b'{"top_k": 3}',
        },
    )
    events = get("u/r:q4_k_m")
    entry = own.find("u/r:Q4_K_M")
    assert entry.name.full() == "hf.co/u/r:q4_k_m"
    assert weights(own, "hf.co/u/r:q4_k_m") == DATA
    assert [layer.media_type for layer in entry.manifest.layers] == [MODEL, SYSTEM, PARAMS]
    assert own.read(entry.manifest).system == "Be brief."
    assert (entry.manifest.source, entry.manifest.revision) == ("hf.co/u/r:m-Q4_K_M.gguf", COMMIT)
    assert statuses(events) == ["pulling manifest", "writing manifest", "success"]
    assert not [path for path in (own.root / "partial").iterdir() if path.suffix != ".is"]


def test_the_best_quantization_and_why(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add(
        "u/r",
        **{"m-Q4_0.gguf": gguf(8000), "m-Q8_0.gguf": DATA, "m-F16.gguf": gguf(9000), "mmproj-F16.gguf": DATA},
    )
    notes = statuses(get("u/r"), "note")
    assert notes[0].startswith("Q8_0: the best of 3 that fits: 1.0 MB, in ")
    assert "Q4_0" in notes[1]
    assert weights(own, "u/r") == DATA


def test_one_file_by_its_name(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("u/r", **{"sub/m-Q4_0.gguf": DATA, "m-Q8_0.gguf": gguf(9000)})
    get("u/r/sub/m-Q4_0.gguf")
    assert weights(own, "u/r:Q4_0") == DATA


def test_a_name_of_ones_own_comes_from_the_same_place_again(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("u/r", **{"m-Q8_0.gguf": DATA})
    get("u/r", rename="tiny")
    hub.add("u/r", **{"m-Q8_0.gguf": gguf(9000)})
    get("tiny")
    assert weights(own, "tiny") == gguf(9000)
    assert [entry.name.short() for entry in own.list()] == ["tiny:latest"]


def test_a_split_file_comes_with_all_its_parts(hub: FakeHub, own: Store, get: Get) -> None:
    parts = {f"Q4_0/m-Q4_0-{i:05}-of-00003.gguf": gguf(5000 + i, i) for i in (1, 2, 3)}
    hub.add("u/r", **parts)
    get("u/r:Q4_0")
    first = own.model_path(own.resolve("u/r:Q4_0"))
    assert first.name == "m-Q4_0-00001-of-00003.gguf"
    assert [first.with_name(name.removeprefix("Q4_0/")).read_bytes() for name in parts] == list(
        parts.values()
    )


def test_a_split_file_that_lacks_a_part(hub: FakeHub, get: Get) -> None:
    hub.add("u/r", **{f"m-Q4_0-{i:05}-of-00003.gguf": gguf(5000) for i in (1, 3)})
    with pytest.raises(NotSupported, match="lacks m-Q4_0-00002-of-00003"):
        get("u/r:Q4_0")


def test_a_folder_of_safetensors(hub: FakeHub, own: Store, get: Get) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    files = {
        "config.json": b"{}", "model.safetensors.index.json": index, "tokenizer.json": b"{ }" * 3000,
        "model-1.safetensors": DATA, "model-2.safetensors": DATA[:5000],
    }  # fmt: skip
    hub.add(
        "u/st", **files, **{"pytorch_model.bin": DATA, "README.md": b"x", "consolidated.safetensors": DATA}
    )
    get("u/st")
    entry = own.find("u/st")
    folder = own.model_path(entry.manifest)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert {layer.media_type for layer in entry.manifest.layers} == {FILE}


def test_modelscope(hub: FakeHub, own: Store, get: Get) -> None:
    hub.add("q/r", **{"m-Q4_0.gguf": DATA})
    get("ms://q/r")
    assert own.find("modelscope.cn/q/r:latest").manifest.source == "ms://q/r:m-Q4_0.gguf"
    assert weights(own, "modelscope.cn/q/r") == DATA


def test_an_address(hub: FakeHub, own: Store, get: Get, small_chunks: int) -> None:
    hub.files["tiny-q8_0.gguf"] = DATA
    get(f"{hub.cdn}/files/tiny-q8_0.gguf", rename="tiny")
    assert weights(own, "tiny") == DATA
    hub.reset()
    get(f"{hub.cdn}/files/tiny-q8_0.gguf", rename="again")
    assert sum(asked.sent for asked in hub.asked) <= 64 << 10  # the question for its size


def test_an_address_without_ranges(hub: FakeHub, own: Store, get: Get, small_chunks: int) -> None:
    hub.files["tiny.gguf"] = DATA
    hub.ranges = False
    hub.faults += [Fault(), Fault(), Fault(cut=300_000)]
    get(f"{hub.cdn}/files/tiny.gguf", rename="tiny", connections=1)
    assert weights(own, "tiny") == DATA


def test_an_address_of_a_page(hub: FakeHub, get: Get) -> None:
    hub.files["page.gguf"] = b"<html>"
    with pytest.raises(RemoteError, match="is not a GGUF file"):
        get(f"{hub.cdn}/files/page.gguf")


def test_a_file_is_linked(own: Store, get: Get, tmp_path: Path) -> None:
    file = tmp_path / "mine-Q4_0.gguf"
    file.write_bytes(DATA)
    get(file.as_uri())
    assert weights(own, "local/mine:Q4_0") == DATA
    assert own.model_path(own.resolve("local/mine:Q4_0")).samefile(file)


# Tokens


def seen_tokens(hub: FakeHub, server: str) -> set[str]:
    headers = (asked.headers for asked in hub.asked if asked.server == server)
    return {value for header in headers for key, value in header.items() if key.lower() == "authorization"}


def test_the_token_stays_with_its_hub(hub: FakeHub, own: Store, remotes: Remotes, small_chunks: int) -> None:
    hub.add("u/g", **{"m-Q4_0.gguf": DATA, "params": b"{}"})
    hub.gated["u/g"] = "secret"
    mine = replace(remotes, endpoint_token="secret")
    pull("u/g", PullOptions(patience=HASTY), store=own, remotes=mine)
    assert seen_tokens(hub, "hub") == {"Bearer secret"}
    assert any(asked.server == "cdn" for asked in hub.asked)
    assert seen_tokens(hub, "cdn") == set()


def test_metadata_that_redirects_takes_no_token_along(hub: FakeHub, own: Store, remotes: Remotes) -> None:
    hub.add("u/g", **{"m-Q4_0.gguf": DATA})
    hub.redirect_api = hub.cdn
    with pytest.raises(MullError):
        pull("u/g", PullOptions(patience=HASTY), store=own, remotes=replace(remotes, endpoint_token="secret"))
    assert any(asked.server == "cdn" for asked in hub.asked)
    assert seen_tokens(hub, "cdn") == set()


def test_the_token_of_huggingface_is_for_no_mirror(hub: FakeHub, get: Get) -> None:
    hub.add("u/g", **{"m-Q4_0.gguf": DATA})
    hub.gated["u/g"] = "hf_official"
    with pytest.raises(RemoteError, match="u/g is gated") as caught:
        get("u/g")
    assert caught.value.hint is not None
    assert "MULL_ENDPOINT_TOKEN" in caught.value.hint
    assert caught.value.status == 401
    assert seen_tokens(hub, "hub") == seen_tokens(hub, "cdn") == set()


def test_a_private_repository_is_as_if_it_were_not(
    hub: FakeHub, own: Store, get: Get, remotes: Remotes
) -> None:
    hub.add("u/p", **{"m-Q4_0.gguf": DATA})
    hub.private["u/p"] = "secret"
    for name in ("u/p", "no/such"):
        with pytest.raises(ModelNotFound, match=f"has no {name}") as caught:
            get(name)
        assert "llm search" in str(caught.value.hint)
    pull("u/p", store=own, remotes=replace(remotes, endpoint_token="secret"))
    assert weights(own, "u/p") == DATA


def test_a_wrong_token_for_a_gated_repository(hub: FakeHub, own: Store, remotes: Remotes) -> None:
    hub.add("u/g", **{"m-Q4_0.gguf": DATA})
    hub.gated["u/g"] = "secret"
    with pytest.raises(RemoteError, match="gated") as caught:
        pull("u/g", PullOptions(patience=HASTY), store=own, remotes=replace(remotes, endpoint_token="other"))
    assert caught.value.status == 403
    assert "accept its terms at" in str(caught.value.hint)
