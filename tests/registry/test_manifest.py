"""Manifests survive a round trip, and broken ones are refused."""

from __future__ import annotations

import json

import pytest
from mull.errors import StoreError
from mull.registry.manifest import (
    CONFIG,
    FILE,
    MODEL,
    SYSTEM,
    Layer,
    Manifest,
    ModelConfig,
    digest_of,
)

DIGEST = digest_of(b"x")


def manifest() -> Manifest:
    return Manifest(
        Layer(CONFIG, DIGEST, 2),
        (
            Layer(MODEL, DIGEST, 7, from_name="pocket:latest"),
            Layer(FILE, DIGEST, 5, title="model-00001-of-00002.safetensors"),
            Layer(SYSTEM, DIGEST, 1),
        ),
    )


def test_round_trip() -> None:
    assert Manifest.from_bytes(manifest().to_bytes()) == manifest()
    assert manifest().size == 15
    assert [layer.size for layer in manifest().of(MODEL, SYSTEM)] == [7, 1]


def test_is_what_ollama_writes() -> None:
    value = json.loads(manifest().to_bytes())
    assert value["schemaVersion"] == 2
    assert value["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert value["config"] == {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "digest": DIGEST,
        "size": 2,
    }
    assert value["layers"][0] == {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": DIGEST,
        "size": 7,
        "from": "pocket:latest",
    }


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schemaVersion",), 1, "schema version 2"),
        (("layers",), None, "no list of layers"),
        (("layers",), [3], "not an object"),
        (("config",), None, "not an object"),
        (("config", "digest"), "sha256:00", "not a digest"),
        (("config", "digest"), "sha256:" + "../" * 21 + "a", "not a digest"),
        (("config", "size"), -1, "not the size"),
        (("config", "size"), True, "not the size"),
        (("config", "mediaType"), None, "no media type"),
        (("layers", 1, "annotations", "org.opencontainers.image.title"), "../x", "not a safe file name"),
        (("layers", 1, "annotations", "org.opencontainers.image.title"), ".hidden", "not a safe file name"),
        (("layers", 1, "annotations", "org.opencontainers.image.title"), 3, "not a safe file name"),
    ],
)
def test_broken_manifests(path: tuple[str | int, ...], value: object, message: str) -> None:
    whole = json.loads(manifest().to_bytes())
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(StoreError, match=message):
        Manifest.from_bytes(json.dumps(whole).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_not_even_json(data: bytes) -> None:
    with pytest.raises(StoreError):
        Manifest.from_bytes(data)
    with pytest.raises(StoreError):
        ModelConfig.from_bytes(data)


def test_config_round_trip() -> None:
    config = ModelConfig("gguf", "qwen3", ("qwen3",), "2.4M", "Q8_0", 2048, requires="0.14.0")
    assert ModelConfig.from_bytes(config.to_bytes(manifest().layers)) == config
    assert json.loads(config.to_bytes(manifest().layers))["rootfs"]["diff_ids"] == [DIGEST] * 3


def test_config_of_others_is_read_with_care() -> None:
    data = json.dumps({"model_family": 3, "model_families": None, "context_length": -1, "os": "linux"})
    assert ModelConfig.from_bytes(data.encode()) == ModelConfig()
