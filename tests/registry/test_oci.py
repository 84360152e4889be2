"""Models pushed to a real registry and pulled from it, and registries that ask for a token or lie."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from mull.errors import InvalidRequest, ModelNotFound, MullError, NotSupported, RemoteError
from mull.registry.bundled import POCKET
from mull.registry.events import silent
from mull.registry.manifest import (
    ADAPTER,
    CONFIG,
    FILE,
    LICENSE,
    MESSAGES,
    MODEL,
    PARAMS,
    PROJECTOR,
    SYSTEM,
    TEMPLATE,
    Layer,
    Manifest,
    ModelConfig,
)  # fmt: skip
from mull.registry.name import ModelName
from mull.registry.oci import Registry, _location, check_plain
from mull.registry.origins import news, repair, verify
from mull.registry.pull import PullOptions, pull
from mull.registry.push import push
from mull.registry.sources.ollama import read_manifest
from mull.registry.store import Store
from mull.registry.web import Web
from mull.settings import Remotes
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from .conftest import HASTY, gguf

DATA = gguf(300_000)


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(HASTY) as web:
        yield web


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer() as server:
        yield server


def full_model(store: Store, name: str) -> Manifest:
    """Store a model that has a layer of every kind."""
    texts = {
        TEMPLATE: "{{ messages }}", SYSTEM: "Be brief.", PARAMS: '{"top_k": 3}', LICENSE: "MIT",
        MESSAGES: '[{"role": "user", "content": "hi"}]', ADAPTER: "GGUF adapter", PROJECTOR: "GGUF projector",
    }  # fmt: skip
    with store.adding() as doomed:
        layers = [Layer(MODEL, *store.add_blob(DATA))]
        layers += [Layer(kind, *store.add_blob(text.encode())) for kind, text in texts.items()]
        config = Layer(CONFIG, *store.add_blob(ModelConfig(model_format="gguf").to_bytes(tuple(layers))))
        manifest = Manifest(config, tuple(layers), "https://secret.example.com/where", "r1")
        doomed |= store.write_manifest(ModelName.parse(name), manifest)
    return manifest


def test_push_then_pull_is_the_identity(registry: str, own: Store, remotes: Remotes, tmp_path: Path) -> None:
    manifest = full_model(own, "mine")
    events: list = []
    push("mine", f"{registry}/me/mine:v1", store=own, remotes=remotes, report=events.append)
    assert events[-1].status == "success"
    other = Store(tmp_path / "other", bundled=None)
    pull(f"{registry}/me/mine:v1", store=other, remotes=remotes)
    entry = other.find(f"{registry}/me/mine:v1")
    assert (entry.manifest.config, entry.manifest.layers) == (manifest.config, manifest.layers)
    assert other.model_path(entry.manifest).read_bytes() == DATA
    assert other.read(entry.manifest).messages == (("user", "hi"),)
    # Where it came from before is not told.
    sent = httpx2.get(f"http://{registry}/v2/me/mine/manifests/v1")
    assert "secret.example.com" not in sent.text


def test_what_the_registry_has_is_not_sent_again(registry: str, own: Store, remotes: Remotes) -> None:
    full_model(own, "mine")
    push("mine", f"{registry}/me/mine", store=own, remotes=remotes)
    events: list = []
    push("mine", f"{registry}/me/mine", store=own, remotes=remotes, report=events.append)
    assert all(event.completed == event.total for event in events if event.kind == "progress")


def test_a_folder_keeps_its_file_names(registry: str, own: Store, remotes: Remotes, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": DATA, "tokenizer.json": b"{ }"}
    with own.adding():
        layers = tuple(Layer(FILE, *own.add_blob(data), title) for title, data in files.items())
        config = Layer(CONFIG, *own.add_blob(ModelConfig(model_format="safetensors").to_bytes(layers)))
        own.write_manifest(ModelName.parse("st"), Manifest(config, layers))
    push("st", f"{registry}/me/st", store=own, remotes=remotes)
    other = Store(tmp_path / "other", bundled=None)
    pull(f"{registry}/me/st", store=other, remotes=remotes)
    folder = other.model_path(other.resolve(f"{registry}/me/st"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_the_bundled_model_can_be_pushed(registry: str, remotes: Remotes, tmp_path: Path) -> None:
    store = Store(tmp_path / "with", bundled=POCKET)
    push("pocket", f"{registry}/me/pocket", store=store, remotes=remotes)
    assert (
        pull(f"{registry}/me/pocket", store=store, remotes=remotes).full() == f"{registry}/me/pocket:latest"
    )


def test_what_a_registry_has_newer_and_what_it_repairs(
    registry: str, own: Store, remotes: Remotes, tmp_path: Path, web: Web
) -> None:
    full_model(own, "mine")
    push("mine", f"{registry}/me/mine", store=own, remotes=remotes)
    other = Store(tmp_path / "other", bundled=None)
    pull(f"{registry}/me/mine", store=other, remotes=remotes)
    assert [item.status for item in news(other, other.list(), remotes, web)] == ["current"]
    entry = other.list()[0]
    other.blob_path(entry.manifest.layers[0].digest).write_bytes(b"damaged")
    other.blob_path(entry.manifest.config.digest).unlink()
    damages = list(verify(other, other.list(), silent))
    assert len(damages) == 2
    assert repair(other, other.list(), damages, remotes, web, silent) == []
    assert other.model_path(other.resolve(entry.name)).read_bytes() == DATA
    with own.adding() as doomed:
        layer = Layer(MODEL, *own.add_blob(gguf(5000)))
        doomed |= own.write_manifest(ModelName.parse("mine"), replace(entry.manifest, layers=(layer,)))
    push("mine", f"{registry}/me/mine", store=own, remotes=remotes)
    assert [item.status for item in news(other, other.list(), remotes, web)] == ["newer"]


def test_a_model_that_the_registry_lacks(registry: str, own: Store, remotes: Remotes) -> None:
    with pytest.raises(ModelNotFound, match="has no model"):
        pull(f"{registry}/me/none", store=own, remotes=remotes)


def test_no_place_to_push_to(own: Store, remotes: Remotes) -> None:
    full_model(own, "mine")
    with pytest.raises(InvalidRequest, match="to which registry"):
        push("mine", store=own, remotes=remotes)
    with pytest.raises(InvalidRequest, match="no place to push to"):
        push("mine", "hf.co/me/mine", store=own, remotes=remotes)


def test_without_encryption_only_when_asked() -> None:
    far, near = ModelName.parse("example.com/a/b"), ModelName.parse("127.0.0.1:5000/a/b")
    with pytest.raises(InvalidRequest, match="not encrypted"):
        check_plain(far, plain=True, insecure=False)
    assert check_plain(far, plain=True, insecure=True)
    assert not check_plain(near, plain=True, insecure=False)


# Tokens and lies


def test_a_token_for_the_registry_alone(
    server: HTTPServer, remotes: Remotes, own: Store, tmp_path: Path
) -> None:
    """A registry sends blobs from elsewhere, as Ollama's does: its token must not go there."""
    config = tmp_path / "docker.json"
    config.write_text(json.dumps({"auths": {_host(server): {"auth": base64.b64encode(b"me:pw").decode()}}}))
    seen: list[tuple[str, str | None]] = []
    layer = Layer(MODEL, *own.add_blob(DATA))
    own.blob_path(layer.digest).unlink()
    config_data = ModelConfig(model_format="gguf").to_bytes()
    manifest = Manifest(Layer(CONFIG, *own.add_blob(config_data)), (layer,))
    with HTTPServer() as cdn:

        def token(request: Request) -> Response:
            seen.append(("token", request.headers.get("Authorization")))
            return Response(json.dumps({"token": "t0k"}), mimetype="application/json")

        def blob(request: Request) -> Response:
            seen.append(("registry", request.headers.get("Authorization")))
            return Response(status=307, headers={"Location": cdn.url_for("/data")})

        def data(request: Request) -> Response:
            seen.append(("cdn", request.headers.get("Authorization")))
            return Response(DATA, headers={"Content-Length": str(len(DATA))})

        def described(request: Request) -> Response:
            if request.headers.get("Authorization") != "Bearer t0k":
                challenge = (
                    f'Bearer realm="{server.url_for("/token")}",service="s",scope="repository:a/b:pull"'
                )
                return Response(status=401, headers={"WWW-Authenticate": challenge})
            return Response(manifest.to_bytes())

        server.expect_request("/v2/a/b/manifests/latest").respond_with_handler(described)
        server.expect_request("/token").respond_with_handler(token)
        server.expect_request(f"/v2/a/b/blobs/{layer.digest}").respond_with_handler(blob)
        cdn.expect_request("/data").respond_with_handler(data)
        pull(
            f"{_host(server)}/a/b",
            PullOptions(patience=HASTY),
            store=own,
            remotes=replace(remotes, docker_config=config),
        )
    assert seen == [
        ("token", "Basic " + base64.b64encode(b"me:pw").decode()),
        ("registry", "Bearer t0k"),
        ("cdn", None),
    ]
    assert own.model_path(own.resolve(f"{_host(server)}/a/b")).read_bytes() == DATA


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_refuses(server: HTTPServer, web: Web, tmp_path: Path, status: int) -> None:
    server.expect_request("/v2/a/b/manifests/latest").respond_with_data("", status=status)
    registry = Registry(ModelName.parse(f"{_host(server)}/a/b"), web, tmp_path / "none")
    with pytest.raises(RemoteError, match=f"does not allow this .{status}") as caught:
        registry.manifest()
    assert caught.value.hint == f"docker login {_host(server)}"


@pytest.mark.parametrize("challenge", ['Bearer realm="http://["', 'Bearer realm="x"', "Bearer", "Basic"])
def test_a_challenge_that_is_none(server: HTTPServer, web: Web, tmp_path: Path, challenge: str) -> None:
    headers = {"WWW-Authenticate": challenge}
    server.expect_request("/v2/a/b/manifests/latest").respond_with_data("", status=401, headers=headers)
    registry = Registry(ModelName.parse(f"{_host(server)}/a/b"), web, tmp_path / "none")
    with pytest.raises(RemoteError):
        registry.manifest()


def test_a_token_without_an_end(
    server: HTTPServer, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mull.registry.web._SMALL", 1000)
    headers = {"WWW-Authenticate": f'Bearer realm="{server.url_for("/token")}"'}
    server.expect_request("/v2/a/b/manifests/latest").respond_with_data("", status=401, headers=headers)
    server.expect_request("/token").respond_with_data(" " * 1001)
    registry = Registry(ModelName.parse(f"{_host(server)}/a/b"), web, tmp_path / "none")
    with pytest.raises(RemoteError, match="sent more than 1000 bytes"):
        registry.manifest()


def test_a_place_for_uploads_that_is_none() -> None:
    asked = httpx2.Request("POST", "https://example.com/v2/a/b/blobs/uploads/")
    for place, said in (("http://[", "is no address"), ("http://example.com/x", "without encryption")):
        with pytest.raises(RemoteError, match=said):
            _location(httpx2.Response(202, headers={"Location": place}, request=asked))


@pytest.mark.parametrize("total", ["9" * 5000, "x"])
def test_a_range_of_a_size_that_is_none(server: HTTPServer, own: Store, remotes: Remotes, total: str) -> None:
    headers = {"Content-Range": f"bytes 0-3/{total}"}
    server.expect_request("/m.gguf").respond_with_data("GGUF", status=206, headers=headers)
    with pytest.raises(RemoteError, match="does not say how large"):
        pull(server.url_for("/m.gguf"), PullOptions(patience=HASTY), store=own, remotes=remotes)


def test_a_blob_that_is_another(server: HTTPServer, own: Store, remotes: Remotes) -> None:
    layer = Layer(MODEL, "sha256:" + "0" * 64, 5)
    config = Layer(CONFIG, *own.add_blob(b"{}"))
    server.expect_request("/v2/a/b/manifests/latest").respond_with_data(Manifest(config, (layer,)).to_bytes())
    server.expect_request(f"/v2/a/b/blobs/{layer.digest}").respond_with_data(b"12345")
    with pytest.raises(RemoteError, match="another digest"):
        pull(f"{_host(server)}/a/b", PullOptions(patience=HASTY), store=own, remotes=remotes)
    assert own.list() == ()


def manifest_of(**changes: object) -> bytes:
    layer = {"mediaType": MODEL, "digest": "sha256:" + "a" * 64, "size": 5}
    value = {"schemaVersion": 2, "config": {**layer, "mediaType": CONFIG}, "layers": [layer], **changes}
    return json.dumps(value).encode()


LAYER = {"mediaType": MODEL, "digest": "sha256:" + "a" * 64, "size": 5}
TITLE = "org.opencontainers.image.title"


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"<html>", RemoteError, "is not JSON"),
        (b"[]", RemoteError, "is wrong"),
        (manifest_of(schemaVersion=1), RemoteError, "schema version"),
        (manifest_of(manifests=[]), NotSupported, "several platforms"),
        (manifest_of(layers=[{**LAYER, "digest": "sha256:../../x"}]), RemoteError, "is not a digest"),
        (manifest_of(layers=[{**LAYER, "size": -1}]), RemoteError, "is not the size"),
        (
            manifest_of(layers=[{**LAYER, "annotations": {TITLE: "../x"}}]),
            RemoteError,
            "not a safe file name",
        ),
        (manifest_of(layers=[{**LAYER, "mediaType": "application/x.tensor"}]), NotSupported, "no weights"),
        (manifest_of(layers=[]), NotSupported, "no weights"),
    ],
)
def test_manifests_that_are_none(data: bytes, error: type[MullError], said: str) -> None:
    with pytest.raises(error, match=said):
        read_manifest(data, "x")


@pytest.mark.parametrize(
    "layer",
    [
        {**LAYER, "mediaType": "application/vnd.docker.ai.gguf.v3"},
        {**LAYER, "mediaType": "application/octet-stream", "annotations": {TITLE: "m.gguf"}},
    ],
    ids=["docker model runner", "oras"],
)
def test_other_programs_models(layer: dict) -> None:
    assert read_manifest(manifest_of(layers=[layer]), "x").of(MODEL)


def _host(server: HTTPServer) -> str:
    return server.url_for("").removeprefix("http://").rstrip("/").replace("localhost", "127.0.0.1")
