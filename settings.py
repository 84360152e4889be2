"""The only reader of the environment: what the user set outside the command line, as one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things live and how the terminal wants them."""

    models_dir: Path
    state_dir: Path
    cache_dir: Path
    color: bool
    cpu: str | None = None
    think_budget: str | None = None
    think_max: str | None = None


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (default: the process's).

    MULL_MODELS     the model store (default: $XDG_DATA_HOME/mull/models)
    MULL_CPU        the native kernels' instruction set: avx512_vnni, avx2, …, baseline, or none (default: the best)
    MULL_THINK_BUDGET  the thinking budget where nothing else sets one: tokens, a share such as 50%, or a level
    MULL_THINK_MAX  the most tokens of thought that any request gets
    NO_COLOR        any value: no colour in the terminal (no-color.org)
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or Path.home())
    data = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
    state = Path(env.get("XDG_STATE_HOME") or home / ".local" / "state")
    models = env.get("MULL_MODELS")
    return Settings(
        models_dir=Path(os.path.expanduser(models)) if models else data / "mull" / "models",
        state_dir=state / "mull",
        cache_dir=Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "mull",
        color=not env.get("NO_COLOR"),
        cpu=env.get("MULL_CPU") or None,
        think_budget=env.get("MULL_THINK_BUDGET") or None,
        think_max=env.get("MULL_THINK_MAX") or None,
    )


@dataclass(frozen=True, slots=True)
class Remotes:
    """Where models come from beside the store: other machines, with their tokens, and other programs' folders."""

    hf_endpoint: str
    hf_token: str | None = field(repr=False)
    endpoint_token: str | None = field(repr=False)
    modelscope_endpoint: str
    modelscope_token: str | None = field(repr=False)
    docker_config: Path
    hf_cache: Path
    ollama_models: tuple[Path, ...]
    lmstudio_models: tuple[Path, ...]
    offline: bool = False


HF_ENDPOINT = "https://huggingface.co"


def load_remotes(environ: Mapping[str, str] | None = None) -> Remotes:
    """Read where models may come from, from `environ` (default: the process's).

    HF_ENDPOINT          the hub that stands for huggingface.co
    HF_TOKEN             the token for huggingface.co, and for nobody else (default: the file of `hf auth login`)
    MULL_ENDPOINT_TOKEN  the token for the hub that HF_ENDPOINT names, where that is not huggingface.co
    HF_HOME, HF_HUB_CACHE, HF_TOKEN_PATH, HF_HUB_OFFLINE   as huggingface_hub has them
    MODELSCOPE_ENDPOINT, MODELSCOPE_API_TOKEN   the hub behind ms:// and its token
    OLLAMA_MODELS        Ollama's store (default: ~/.ollama/models, then where Ollama's service keeps its own)
    MULL_LMSTUDIO        LM Studio's folder of models (default: ~/.lmstudio/models, ~/.cache/lm-studio/models)
    DOCKER_CONFIG        the folder whose config.json holds the passwords of registries (default: ~/.docker)
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or Path.home())
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    hf_home = _folder(env, "HF_HOME") or cache / "huggingface"
    token_file = _folder(env, "HF_TOKEN_PATH") or hf_home / "token"
    implicit = None if env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN") in _TRUE else _first_line(token_file)
    ollama, lmstudio = _folder(env, "OLLAMA_MODELS"), _folder(env, "MULL_LMSTUDIO")
    return Remotes(
        hf_endpoint=(env.get("HF_ENDPOINT") or HF_ENDPOINT).rstrip("/"),
        hf_token=(env.get("HF_TOKEN") or "").strip() or implicit,
        endpoint_token=(env.get("MULL_ENDPOINT_TOKEN") or "").strip() or None,
        modelscope_endpoint=(env.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn").rstrip("/"),
        modelscope_token=(env.get("MODELSCOPE_API_TOKEN") or "").strip() or None,
        docker_config=(_folder(env, "DOCKER_CONFIG") or home / ".docker") / "config.json",
        hf_cache=_folder(env, "HF_HUB_CACHE") or hf_home / "hub",
        ollama_models=(ollama,) if ollama else (home / ".ollama/models", *_OLLAMA_SERVICE),
        lmstudio_models=(lmstudio,) if lmstudio else (home / ".lmstudio/models", cache / "lm-studio/models"),
        offline=env.get("HF_HUB_OFFLINE") in _TRUE,
    )


def keep_hub_quiet() -> None:
    """Have huggingface_hub call nobody but for what it is asked; must come before its first import."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_UPDATE_CHECK", "1")


@dataclass(frozen=True, slots=True)
class Console:
    """What the user's terminal can do, and the editor to write longer texts in."""

    editor: str | None
    unicode: bool
    dumb: bool


def load_console(environ: Mapping[str, str] | None = None) -> Console:
    """Read what is said of the terminal, from `environ` (default: the process's).

    VISUAL, EDITOR          the editor of Ctrl-G and /edit
    LC_ALL, LC_CTYPE, LANG  whether the terminal shows more than ASCII
    TERM                    "dumb" for a terminal that cannot move its cursor
    """
    env = os.environ if environ is None else environ
    # Python itself sets LC_CTYPE to C.UTF-8 where the user's locale is C: that says nothing of the terminal.
    kind = env.get("LC_CTYPE")
    own = kind if kind and not kind.startswith("C.") else None
    locale = env.get("LC_ALL") or own or env.get("LANG") or ""
    return Console(
        editor=env.get("VISUAL") or env.get("EDITOR") or None,
        unicode="utf8" in locale.lower().replace("-", ""),
        dumb=env.get("TERM", "dumb") in ("dumb", "unknown", ""),
    )


def load_serving(environ: Mapping[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """Return what `environ` (default: the process's) says of a server: an option's name → the variable and its text.

    MULL_HOST, MULL_PORT, MULL_MODELS_MAX and so on: an option of `llm serve` each; Ollama's variables are understood
    where they mean the same, and ours come before them.
    """
    env = os.environ if environ is None else environ
    said = {}
    for option, theirs in _SERVING.items():
        for name in (f"MULL_{option.upper()}", *theirs):
            text = env.get(name, "").strip().strip("\"'")
            # Ollama's 0 leaves these to itself.
            if text and not (name in _ZERO_IS_UNSET and text == "0"):
                said[option] = (name, text)
                break
    if "log_level" not in said and env.get("OLLAMA_DEBUG", "0").lower() not in ("", "0", "false"):
        said["log_level"] = ("OLLAMA_DEBUG", "debug")
    return said


_SERVING: dict[str, tuple[str, ...]] = {
    "host": ("OLLAMA_HOST",),
    "port": (),
    "socket": (),
    "models_max": ("OLLAMA_MAX_LOADED_MODELS",),
    "parallel": ("OLLAMA_NUM_PARALLEL",),
    "max_queue": ("OLLAMA_MAX_QUEUE",),
    "num_ctx": ("OLLAMA_CONTEXT_LENGTH",),
    "keep_alive": ("OLLAMA_KEEP_ALIVE",),
    "api_key": (),
    "api_key_file": (),
    "origins": ("OLLAMA_ORIGINS",),
    "tls_cert": (),
    "tls_key": (),
    "cache_type_k": ("OLLAMA_KV_CACHE_TYPE",),
    "cache_type_v": ("OLLAMA_KV_CACHE_TYPE",),
    "threads": (),
    "overflow": (),
    "prompt_cache": (),
    "speculate": (),
    "draft": (),
    "deterministic": (),
    "grace": (),
    "log_level": (),
}
_ZERO_IS_UNSET = ("OLLAMA_MAX_LOADED_MODELS", "OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH")

_TRUE = ("1", "ON", "YES", "TRUE", "on", "yes", "true")
_OLLAMA_SERVICE = (Path("/usr/share/ollama/.ollama/models"),)


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name)
    return Path(os.path.expanduser(value)) if value else None


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
