"""A Hugging Face checkpoint as a GGUF model: what its file will say, and its tensors as they will be stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from ...errors import CorruptFile, NotSupported, UnsupportedArchitecture
from ..base import CausalLM, registered
from ..checkpoint.base import Checkpoint
from ..checkpoint.gguf_values import Typed, ValueType
from ..checkpoint.gguf_writer import NewTensor
from ..checkpoint.tokenizer_files import declared_ends
from ..config import ModelConfig, section
from ..load import find_architecture, model_config
from .card import general_keys, sampling_keys
from .keys import common_keys, further_keys, pattern_keys, typed
from .preview import Preview, check_same
from .special import end_keys, read_state, special_keys, template_keys
from .tensors import Recipe, Source, tensor_sources
from .vocabulary import read_tokens, token_keys

OutType = Literal["auto", "f32", "f16", "bf16"]

# llama.cpp's numbers of file types: the type of most matrices.
FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32}
_QUANTIZATION_VERSION = 2
# llama.cpp looks for these in any model with Phi-3's name.
_PHI3_TOKENS = {"<unk>", "<s>", "</s>", "<|endoftext|>"}


@dataclass(frozen=True, slots=True)
class Converted:
    """What is to be written: the metadata of the first file, and the tensors in order."""

    metadata: dict[str, Typed]
    tensors: list[Source]

    def new_tensors(self) -> list[NewTensor]:
        """Return the tensors for `write_gguf` as they are; each is let go of once it is written."""
        written: list[Source] = []

        def pieces(source: Source) -> Iterator[Tensor]:
            yield from source.load().parts
            # the writer may still be at this tensor, but is done with the one before
            while written:
                written.pop().release()
            written.append(source)

        return [NewTensor(s.name, s.dtype, s.shape, partial(pieces, s)) for s in self.tensors]


def convert(checkpoint: Checkpoint, outtype: OutType = "auto") -> Converted:
    """Say how a folder of safetensors becomes a GGUF model; nothing is computed before a tensor is loaded.

    outtype: of matrices; auto keeps what each is stored in. Raises UnsupportedArchitecture, TokenizerError,
    NotSupported for what GGUF cannot say, and whatever loading the model would raise.
    """
    if checkpoint.format != "safetensors":
        raise NotSupported(f"{checkpoint.path} is a GGUF file already")
    model = find_architecture(checkpoint)
    _refuse_packed(checkpoint)
    keys, recipe = _recipe(checkpoint, model, outtype)
    tensors = tensor_sources(checkpoint, recipe)
    factors = [source.load().dequantize() for source in tensors if source.name == "rope_freqs.weight"]
    check_same(recipe.config, _read_back(checkpoint.path, keys, tensors), factors[0] if factors else None)
    folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
    spoken = _tokenizer_keys(checkpoint, folder, recipe.config.vocab_size)
    general = general_keys(folder, checkpoint.config, tensors)
    if model.written_as == "phi3" and spoken.greedy:
        general["general.name"] = typed(_phi3_name(str(general["general.name"].value)))
    kinds = {
        "general.file_type": typed(_file_type(tensors)),
        "general.quantization_version": typed(_QUANTIZATION_VERSION),
    }
    architecture = {"general.architecture": keys.pop("general.architecture")}
    sampling = sampling_keys(checkpoint.generation)
    return Converted(architecture | general | sampling | keys | kinds | spoken.keys, tensors)


def _recipe(
    checkpoint: Checkpoint, model: type[CausalLM], outtype: OutType
) -> tuple[dict[str, Typed], Recipe]:
    """Return what the file says of the architecture, and how its tensors are made."""
    written = _reader(model, checkpoint)
    config = model_config(checkpoint)
    adapted = model.adapt(dict(checkpoint.config), checkpoint)
    name = model.written_as
    keys = {"general.architecture": typed(name)} | common_keys(config, name)
    keys |= {f"{name}.{key}": typed(value) for key, value in written.gguf_keys.items()}
    implied = _read_back(checkpoint.path, keys)
    keys |= further_keys(config, implied, {**checkpoint.config, **_text(checkpoint)}, name)
    keys |= pattern_keys(config, _read_back(checkpoint.path, keys), name)
    recipe = Recipe(
        model=model,
        config=config,
        written=written,
        outtype=outtype,
        tied=bool(adapted.get("tie_word_embeddings", False)),
        pairs=implied.rope.interleaved and not config.rope.interleaved,
    )
    return keys, recipe


@dataclass(frozen=True, slots=True)
class _Spoken:
    """The tokenizer's keys. greedy: some markup takes the white space after it."""

    keys: dict[str, Typed]
    greedy: bool


def _phi3_name(name: str) -> str:
    """Return a name that says Phi-3: by nothing else do readers know that markup takes the spaces after it."""
    known = any(word in name.lower() for word in ("phi-3", "phi3"))
    return name if known else f"Phi-3 {name}"


def _tokenizer_keys(checkpoint: Checkpoint, folder: Path, size: int) -> _Spoken:
    state, config = read_state(folder)
    tokens = read_tokens(folder, state, config, size)
    special = special_keys(tokens, state, config, {**checkpoint.config, **_text(checkpoint)})
    eos = special.get("tokenizer.ggml.eos_token_id")
    ends = [i for i in declared_ends(checkpoint.generation, checkpoint.config, _text(checkpoint)) if i < size]
    if eos is None and ends:
        eos = special["tokenizer.ggml.eos_token_id"] = Typed(ends[0], ValueType.UINT32)
    keys = token_keys(tokens) | special
    keys |= end_keys(tokens, ends, None if eos is None else eos.value)
    greedy = tokens.greedy and tokens.ids().keys() >= _PHI3_TOKENS
    return _Spoken(keys | template_keys(folder, checkpoint.chat_template, config), greedy)


def _refuse_packed(checkpoint: Checkpoint) -> None:
    for part in (checkpoint.config, _text(checkpoint)):
        packed = section(part, "quantization_config")
        if packed:
            method = packed.get("quant_method", "an unnamed method")
            raise NotSupported(
                f"{checkpoint.path.name}: the weights are quantized with {method} already, and are not converted",
                hint="convert the original model, in bfloat16 or float16",
            )


def _reader(model: type[CausalLM], checkpoint: Checkpoint) -> type[CausalLM]:
    """Return the architecture that reads the file."""
    if not model.written_as:
        raise UnsupportedArchitecture(
            f"the architecture '{checkpoint.architecture}' has no form in GGUF files",
            hint="the folder itself can be run",
        )
    return registered("gguf")[model.written_as]


def _read_back(path: Path, metadata: Mapping[str, Typed], tensors: Iterable[Source] = ()) -> ModelConfig:
    """Return what the file's reader will make of it."""
    return model_config(Preview(path, metadata, tensors))


def _text(checkpoint: Checkpoint) -> Mapping[str, object]:
    """Return the part of config.json that is about text, where a model also sees."""
    return section(checkpoint.config, "text_config")


def _file_type(tensors: list[Source]) -> int:
    """Return the number of the type that most weights have."""
    sizes: dict[str, int] = {}
    for source in tensors:
        if len(source.shape) > 1:
            sizes[source.dtype.name] = sizes.get(source.dtype.name, 0) + source.nbytes
    most = max(sizes, key=lambda name: sizes[name], default="f32")
    if most not in FILE_TYPES:
        raise CorruptFile(f"no file type stands for {most}")
    return FILE_TYPES[most]
