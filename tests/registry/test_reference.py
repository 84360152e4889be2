"""What users name, taken apart."""

from __future__ import annotations

import pytest
from mull.errors import InvalidName
from mull.registry.sources.reference import parse_reference


@pytest.mark.parametrize(
    ("text", "source", "name", "rest"),
    [
        ("llama3.2", "oci", "registry.ollama.ai/library/llama3.2:latest", ""),
        ("library/x:tag", "oci", "registry.ollama.ai/library/x:tag", ""),
        ("user/repo", "hub", "hf.co/user/repo:latest", "user/repo"),
        ("user/repo:Q4_K_M", "hub", "hf.co/user/repo:Q4_K_M", "user/repo Q4_K_M"),
        ("hf.co/u/r:Q4_K_M", "hub", "hf.co/u/r:Q4_K_M", "u/r Q4_K_M"),
        ("huggingface.co/u/r", "hub", "hf.co/u/r:latest", "u/r"),
        ("hf://u/r", "hub", "hf.co/u/r:latest", "u/r"),
        ("hf://hf.co/u/r", "hub", "hf.co/u/r:latest", "u/r"),
        ("u/r/x-Q5_K_S.gguf", "hub", "hf.co/u/r:Q5_K_S", "u/r x-Q5_K_S.gguf"),
        ("u/r:Q4/x-00001-of-00003.gguf", "hub", "hf.co/u/r:x-00001-of-00003", "u/r Q4/x-00001-of-00003.gguf"),
        ("https://huggingface.co/u/r/blob/main/m.Q8_0.gguf", "hub", "hf.co/u/r:Q8_0", "u/r m.Q8_0.gguf"),
        ("https://huggingface.co/u/r/tree/main", "hub", "hf.co/u/r:latest", "u/r"),
        ("ms://Qwen/Q3", "modelscope", "modelscope.cn/Qwen/Q3:latest", "Qwen/Q3"),
        ("https://modelscope.cn/models/Qwen/Q3", "modelscope", "modelscope.cn/Qwen/Q3:latest", "Qwen/Q3"),
        ("localhost:5000/a/b:c", "oci", "localhost:5000/a/b:c", ""),
        ("http://127.0.0.1:5000/a/b", "oci", "127.0.0.1:5000/a/b:latest", "plain"),
        ("example.com/model", "oci", "example.com/library/model:latest", ""),
        ("ollama://me/l3", "oci", "registry.ollama.ai/me/l3:latest", ""),
        ("ollama.com/library/q", "oci", "registry.ollama.ai/library/q:latest", ""),
        ("oci://ghcr.io/a/b:c", "oci", "ghcr.io/a/b:c", ""),
        (
            "https://x.org/a.b/q-Q4_0.gguf?k=1",
            "address",
            "x.org/a-b/q:Q4_0",
            "https://x.org/a.b/q-Q4_0.gguf?k=1",
        ),
        ("file:///tmp/x-q8_0.gguf", "file", "registry.ollama.ai/local/x:Q8_0", "/tmp/x-q8_0.gguf"),
        ("./models/foo", "file", "registry.ollama.ai/local/foo:latest", "./models/foo"),
    ],
)
def test_every_form(text: str, source: str, name: str, rest: str) -> None:
    found = parse_reference(text)
    parts = [found.repo, found.wanted, found.path, "plain" if found.plain else ""]
    assert (found.source, found.name.full(), " ".join(filter(None, parts))) == (source, name, rest)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the model is empty"),
        ("s3://bucket/x", "no models come from s3://"),
        ("u/", "names no repository"),
        ("hf.co/only", "names no repository"),
        ("u/r:../../etc/x.gguf", "leaves the repository"),
        ("u/../r", "names no repository"),
        ("https://x.org/", "names no model"),
        ("https://[bad", "is no address"),
        ("u/" + "r" * 90, "needs another name here"),
    ],
)
def test_what_is_no_name(text: str, said: str) -> None:
    with pytest.raises(InvalidName, match=said):
        parse_reference(text)
