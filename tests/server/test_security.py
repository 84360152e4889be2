"""Who may ask: host names, origins, keys, and how much a request may send."""

from __future__ import annotations

import pytest
from mull.server.options import ServerOptions
from mull.server.security import is_loopback, is_own_host
from starlette.testclient import TestClient

LOCAL = "http://127.0.0.1:11434"


@pytest.fixture
def client(fake_app):
    return lambda **options: TestClient(fake_app(**options), base_url=LOCAL)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:11434",
        "127.0.0.1:11434",
        "[::1]:11434",
        "192.168.1.7",
        "0.0.0.0",
        "box.local",
        "",
    ],
)
def test_names_of_this_machine_may_be_asked(client, host: str):
    assert client().get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:11434", "localhost.evil.com", "93.184.216.34", "local"]
)
def test_other_names_are_refused_as_a_page_may_have_pointed_them_here(client, host: str):
    answer = client().post("/api/chat", json={}, headers={"Host": host})
    assert answer.status_code == 403
    assert "host name" in answer.json()["error"]


def test_a_server_for_the_network_has_any_name(client):
    assert client(host="0.0.0.0").get("/health", headers={"Host": "box.example.com"}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
        "app://obsidian.md",
        "vscode-webview://1a",
    ],
)
def test_pages_of_this_machine_may_ask_and_read(client, origin: str):
    answer = client().get("/health", headers={"Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "origin", ["https://evil.com", "http://localhost.evil.com", "http://localhost:80.evil.com", "null", ""]
)
def test_pages_from_elsewhere_may_not_even_without_a_preflight(client, origin: str):
    answer = client().post(
        "/api/generate", content=b"{}", headers={"Origin": origin, "Content-Type": "text/plain"}
    )
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/mull/model?name=pocket", "/props?model=pocket", "/api/tags"])
def test_images_and_links_of_other_pages_load_nothing(client, path: str):
    headers = {"Sec-Fetch-Site": "cross-site"}  # without an Origin, as browsers send it
    assert client().get(path, headers=headers).status_code == 403
    assert client().get("/", headers=headers).status_code == 200
    assert client(origins=("*",)).get("/api/tags", headers=headers).status_code == 200


def test_a_page_of_the_server_itself_may_ask(client):
    answer = client(host="0.0.0.0").get("/health", headers={"Host": "box:99", "Origin": "http://box:99"})
    assert answer.status_code == 200


def test_origins_may_be_added_as_patterns(client):
    asking = client(origins=("https://*.example.com", "chat.test"))
    for origin in ("https://a.example.com", "http://chat.test", "https://chat.test"):
        assert asking.get("/health", headers={"Origin": origin}).status_code == 200
    for origin in ("https://example.com", "http://a.example.com", "https://a.example.com.evil.com"):
        assert asking.get("/health", headers={"Origin": origin}).status_code == 403
    assert client(origins=("*",)).get("/health", headers={"Origin": "https://evil.com"}).status_code == 200


def test_a_preflight_says_what_a_page_may_do(client):
    answer = client().options(
        "/v1/chat/completions",
        headers={
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,x-stainless-os",
        },
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    refused = client().options("/v1/chat/completions", headers={"Origin": "https://evil.com"})
    assert refused.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer second"}, {"authorization": "bearer first"}, {"x-api-key": "first"}],
)
def test_one_of_the_keys_must_come(client, headers: dict[str, str]):
    asking = client(api_keys=("first", "second"))
    assert asking.get("/api/version", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer third"}, {"Authorization": "Bearer "}, {"Authorization": "Basic first"},
     {"x-api-key": ""}, {"Authorization": "Bearer first second"}],
)  # fmt: skip
def test_without_a_key_nothing_is_told_in_every_dialects_own_words(client, headers: dict[str, str]):
    asking = client(api_keys=("first", "second"))
    ollama = asking.post("/api/chat", json={}, headers=headers)
    openai = asking.post("/v1/chat/completions", json={}, headers=headers)
    anthropic = asking.post("/v1/messages", json={}, headers=headers)
    assert {ollama.status_code, openai.status_code, anthropic.status_code} == {401}
    assert ollama.headers["www-authenticate"] == "Bearer"
    assert "API key" in ollama.json()["error"]
    assert "API key" in openai.json()["error"]["message"]
    assert "API key" in anthropic.json()["error"]["message"]
    assert asking.get("/metrics", headers=headers).status_code == 401
    assert asking.get("/health", headers=headers).status_code == 200
    assert asking.get("/page/page.js", headers=headers).status_code == 200  # it asks for the key


def test_a_preflight_needs_no_key(client):
    asking = client(api_keys=("first",))
    assert asking.options("/api/chat", headers={"Origin": "http://localhost"}).status_code == 204


@pytest.mark.parametrize(
    "path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/tokenize", "/mull/chat"]
)
def test_a_huge_body_is_refused_announced_or_not(client, path: str):
    asking = client(max_body=1000)
    announced = asking.post(path, content=b"x" * 1001)
    streamed = asking.post(path, content=iter([b"x" * 600, b"x" * 600]))
    assert (announced.status_code, streamed.status_code) == (413, 413)
    for answer in (announced, streamed):
        assert "more than 1000" in str(answer.json()["error"])


def test_options_are_checked():
    with pytest.raises(Exception, match="parallel must be at least 1"):
        ServerOptions(parallel=0)
    with pytest.raises(Exception, match="a key needs its certificate"):
        ServerOptions(tls_key="key.pem")


def test_keys_are_not_shown():
    assert "hush" not in repr(ServerOptions(api_keys=("hush",)))


@pytest.mark.parametrize(
    ("host", "is_so"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.7", False), ("box.example.com", False), ("", False)],
)  # fmt: skip
def test_what_listens_for_this_machine_alone(host: str, is_so: bool):
    assert is_loopback(host) == is_so


def test_the_machines_own_name_is_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    assert is_own_host("box:11434")
    assert is_own_host("box.")
    assert not is_own_host("box.example.com")
