"""What Ollama's /api/tags, /api/ps and /api/show say of models."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ...registry.create import Details
from ...registry.manifest import ModelConfig
from ..facts import Facts, written_parameters
from .ollama_fields import ShowBody

if TYPE_CHECKING:
    from ...registry.store import Entry
    from ..pool import Loaded

Json = dict[str, object]

# As Go's longest duration, which is what Ollama adds to the clock for a model that never goes.
_FOREVER = timedelta(days=106751)


def details(config: ModelConfig) -> Json:
    """Return the part `details`, which is the same everywhere."""
    found: Json = {
        "parent_model": "",
        "format": config.model_format,
        "family": config.model_family,
        "families": list(config.model_families) or [config.model_family],
        "parameter_size": config.model_type,
        "quantization_level": config.file_type,
    }
    return found if config.context_length is None else {**found, "context_length": config.context_length}


def as_config(found: Details) -> ModelConfig:
    """Return what a model file's headers say in the form in which the store keeps it."""
    return ModelConfig(
        model_format=found.format,
        model_family=found.family,
        model_families=found.families or (found.family,),
        model_type=found.parameter_size,
        file_type=found.quantization,
        context_length=found.context_length,
    )


def listed(entry: Entry, config: ModelConfig) -> Json:
    """Return a line of /api/tags."""
    name = entry.name.short()
    return {
        "name": name,
        "model": name,
        "modified_at": _written(entry.modified),
        "size": entry.size,
        "digest": bare(entry.digest),
        "details": details(config),
    }


def loaded(model: Loaded, config: ModelConfig, now: float | None = None) -> Json:
    """Return a line of /api/ps."""
    plan = model.llm.plan
    size = plan.weight_bytes + plan.cache_bytes
    now = time.time() if now is None else now
    expires = model.expires
    if model.in_use:  # the time begins when it is idle
        expires = now + model.keep_alive if model.keep_alive >= 0 else math.inf
    moment = datetime.fromtimestamp(now, UTC)
    moment += _FOREVER if math.isinf(expires) else timedelta(seconds=expires - now)
    return {
        "name": model.name,
        "model": model.name,
        "size": size,
        "digest": bare(model.found.digest),
        "details": details(config),
        "expires_at": _written(moment),
        "size_vram": 0 if model.llm.backend.startswith("cpu") else size,
        "context_length": model.llm.context_length,
    }


def shown(facts: Facts, config: ModelConfig, embedding_length: int | None, body: ShowBody) -> Json:
    """Return the answer to /api/show; `body` may put its own words in the place of the Modelfile's."""
    entry, contents = facts.target.entry, facts.contents
    values = {**facts.values(), **(body.options or {})}
    described = details(config)
    if embedding_length is not None:
        described["embedding_length"] = embedding_length
    found: Json = {
        "license": facts.license(),
        "modelfile": facts.modelfile(),
        "parameters": written_parameters(dict(sorted(values.items()))),
        "template": body.template or facts.template(),
        "system": body.system or facts.system(),
        "details": described,
        "messages": [{"role": r, "content": c} for r, c in contents.messages] if contents else [],
        "model_info": model_info(facts, verbose=bool(body.verbose)),
        "capabilities": facts.capabilities(),
        "modified_at": _written(entry.modified) if entry else None,
        "requires": config.requires,
    }
    if body.verbose:
        infos = facts.checkpoint.infos.values()
        found["tensors"] = [{"name": i.name, "type": i.dtype.upper(), "shape": list(i.shape)} for i in infos]
    # What says nothing is left out, as Ollama does.
    kept = ("details", "model_info", "capabilities")
    return {name: value for name, value in found.items() if value or name in kept}


def model_info(facts: Facts, *, verbose: bool) -> Json:
    """Return a GGUF's metadata, or a folder's configuration under the same names; long lists only if `verbose`."""
    checkpoint = facts.checkpoint
    architecture = checkpoint.architecture
    info: Json = {"general.architecture": architecture, "general.parameter_count": checkpoint.num_parameters}
    if checkpoint.format == "gguf":
        info |= facts.metadata()
    else:
        info |= {f"{architecture}.{key}": value for key, value in _renamed(facts.metadata()).items()}
    chat = "tokenizer.chat_template"
    return {
        key: value if verbose or not isinstance(value, list) else None
        for key, value in sorted(info.items())
        if key != chat or verbose
    }


def bare(digest: str) -> str:
    """Return a digest without its kind."""
    return digest.removeprefix("sha256:")


def _renamed(config: Mapping[str, object]) -> Json:
    """Return a configuration of Hugging Face under GGUF's names, where it has any."""
    names = {
        "max_position_embeddings": "context_length",
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
    }
    simple = {k: v for k, v in config.items() if not isinstance(v, dict | list)}
    return {names.get(key, key): value for key, value in simple.items()}


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
