"""Random requests to every endpoint of our OpenAPI document: whatever comes, no answer is a fault of ours."""

from __future__ import annotations

import random
from contextlib import suppress
from types import SimpleNamespace

import pytest
import schemathesis
from fake_llm import FakeLLM
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from mull.models.checkpoint.open import open_checkpoint
from mull.registry.target import find_target
from mull.runtime.tokenizer.load import load_tokenizer
from mull.server.app import make_app
from mull.server.options import ServerOptions
from mull.server.pool import ModelPool
from mull.settings import load_settings
from schemathesis import GenerationMode
from server_fixtures import serving

DOCUMENT = make_app(ServerOptions(), load_settings({"HOME": "/nonexistent"})).openapi()
# They ask other machines.
REMOTE = {"/api/pull", "/api/push"}
OPERATIONS = [
    (path, method) for path, item in DOCUMENT["paths"].items() if path not in REMOTE for method in item
]
# What is known and not there yet; nothing free now; no room in memory or on disk.
ALLOWED = {501, 503, 507}
LIMITS = {
    "/v1/responses": "max_output_tokens",
    "/completion": "n_predict",
    "/completions": "n_predict",
    "/v1": "max_tokens",
}
QUICK, LONG = 8, 300


def tame(case, choose: random.Random):
    """Let a request reach further than the first of its many wrong fields: few of them, and a model that is there."""
    body = case.body
    if not isinstance(body, dict):
        return
    schema = DOCUMENT["paths"][case.operation.path][case.operation.method.lower()]
    required = schema["requestBody"]["content"]["application/json"]["schema"].get("required", [])
    optional = [name for name in body if name not in required]
    for name in choose.sample(optional, max(0, len(optional) - choose.randint(0, 3))):
        del body[name]
    if isinstance(body.get("model", ""), str):
        body["model"] = "pocket"


def limit(case):
    """Have a reply end soon."""
    body = case.body
    if not isinstance(body, dict):
        return
    for prefix, name in LIMITS.items():
        if case.operation.path.startswith(prefix):
            body.setdefault(name, 3)
            break
    if case.operation.path in ("/api/chat", "/api/generate", "/mull/chat"):
        options = body.setdefault("options", {})
        if isinstance(options, dict):
            options["num_predict"] = 3


def attack(live, path: str, method: str, mode: GenerationMode, examples: int) -> set[int]:
    """Send random requests to one endpoint and check each answer; return the statuses that came."""
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method.upper()]
    statuses = set()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(20)
    @given(case=operation.as_strategy(mode), number=st.integers(0, 2**32), is_tame=st.booleans())
    def send(case, number, is_tame):
        if is_tame:
            tame(case, random.Random(number))
        limit(case)
        response = case.call(base_url=live.base_url, timeout=120)
        statuses.add(response.status_code)
        told = f"{method} {path} {case.body!r:.500}: {response.status_code} {response.text:.300}"
        assert response.status_code < 500 or response.status_code in ALLOWED, told
        assert response.status_code != 422, told
        if response.status_code >= 400 and response.content:
            assert "error" in response.json(), told

    with suppress(Unsatisfiable):  # there is no wrong way to ask for what takes no fields
        send()
    return statuses


class Quick(FakeLLM):
    """A scripted model with the bundled one's tokenizer."""

    def __init__(self, checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.tokenizer = load_tokenizer(checkpoint)
        self.template = None

    def prompt(self, request):
        return SimpleNamespace(ids=(5, 6, 7), text="a prompt")


@pytest.fixture(scope="module")
def scripted(server_settings):
    """A server whose model answers at once."""
    with open_checkpoint(find_target("pocket", server_settings).path) as checkpoint:
        model = Quick(checkpoint)
        pool = ModelPool(ServerOptions(), server_settings, opener=lambda *_: model)
        with serving(ServerOptions(), server_settings, pool) as server:
            yield server


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_is_answered_with_a_fault(scripted, path, method):
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        attack(scripted, path, method, mode, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_of_many_is_answered_with_a_fault(live, path, method):
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        attack(live, path, method, mode, LONG)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_some_requests_are_answered(scripted, path):
    assert 200 in attack(scripted, path, "post", GenerationMode.POSITIVE, 40)


def test_the_document_refers_to_nothing_that_is_not_there():
    waiting: list = [DOCUMENT]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                found = DOCUMENT
                for part in value["$ref"].removeprefix("#/").split("/"):
                    found = found[part.replace("~1", "/").replace("~0", "~")]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
