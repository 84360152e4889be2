"""Where models come from, as the environment says."""

from __future__ import annotations

from pathlib import Path

from mull.registry.sources.hub import hub_site
from mull.settings import load_remotes


def test_the_defaults(tmp_path: Path) -> None:
    found = load_remotes({"HOME": str(tmp_path)})
    assert found.hf_endpoint == "https://huggingface.co"
    assert found.hf_token is None
    assert found.hf_cache == tmp_path / ".cache" / "huggingface" / "hub"
    assert found.ollama_models[0] == tmp_path / ".ollama" / "models"
    assert not found.offline


def test_the_token_of_the_hubs_own_login(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_file\n")
    environment = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
    assert load_remotes(environment).hf_token == "hf_file"
    assert load_remotes({**environment, "HF_TOKEN": " hf_env "}).hf_token == "hf_env"
    assert load_remotes({**environment, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}).hf_token is None


def test_tokens_are_not_shown(tmp_path: Path) -> None:
    found = load_remotes(
        {"HOME": str(tmp_path), "HF_TOKEN": "hf_secret", "MULL_ENDPOINT_TOKEN": "mirror_secret"}
    )
    assert "secret" not in repr(found)
    assert "secret" not in repr(hub_site("u/r", found))


def test_which_token_goes_where(tmp_path: Path) -> None:
    tokens = {"HOME": str(tmp_path), "HF_TOKEN": "hf", "MULL_ENDPOINT_TOKEN": "mirror"}
    assert hub_site("u/r", load_remotes(tokens)).token == "hf"
    assert hub_site("u/r", load_remotes({**tokens, "HF_ENDPOINT": "https://huggingface.co/"})).token == "hf"
    assert hub_site("u/r", load_remotes({**tokens, "HF_ENDPOINT": "https://hf-mirror.com"})).token == "mirror"
    site = hub_site("u/r", load_remotes(tokens))
    assert site.headers("https://huggingface.co/u/r") == {"Authorization": "Bearer hf"}
    for elsewhere in (
        "https://cdn.huggingface.co/x",
        "http://huggingface.co/x",
        "https://huggingface.co:444/x",
    ):
        assert site.headers(elsewhere) == {}
