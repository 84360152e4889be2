"""Saves a folder whose matrices bitsandbytes has quantized, as `transformers` saves and loads one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, InvalidRequest, MullError, NotSupported
from ..quant import bnb
from ..quant.dtype import DType, dtype
from ..quant.formats.bnb import LEVELS, NESTED_BLOCK
from .checkpoint.base import Checkpoint, TensorInfo
from .checkpoint.new_files import NewFiles
from .checkpoint.safetensors_writer import NewEntry, NewGroup, divide, header, write_file
from .load import model_config
from .quantize_on_load import layers

Progress = Callable[[int, int], None]
"""Called with the bytes written and in all."""

_PART = 5 * 10**9
_INDEX = "model.safetensors.index.json"
_STATE_BYTES = 256
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
# What stands beside weights and is no weight, nor says how they are stored.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5")
_LARGEST_COPY = 256 << 20


def save_folder(
    checkpoint: Checkpoint, target: Path, name: str, progress: Progress | None = None
) -> list[Path]:
    """Write a folder with the matrices in `name` (nf4, fp4 or int8) and everything else as it is; return its files.

    Either the whole folder stands there afterwards or nothing has changed. Raises InvalidRequest for a source that
    is no folder of safetensors or quantized already, NotSupported for what transformers would not load, DiskFull.
    """
    if checkpoint.format != "safetensors":
        raise InvalidRequest(
            f"{checkpoint.path.name} is a GGUF file; only a folder of safetensors becomes {name}",
            field="type",
            hint="take the original folder, or choose a type of GGUF's, such as Q4_K_M",
        )
    if model_config(checkpoint).num_experts:
        raise NotSupported(
            f"transformers keeps experts in tensors that bitsandbytes does not quantize, so {name} has no use",
            hint="choose a type of GGUF's, such as Q4_K_M",
        )
    targets = layers(checkpoint, dtype(name))
    groups = [group for info in checkpoint.infos.values() for group in _groups(checkpoint, info, targets)]
    parts = divide(groups, _PART)
    copies = _copies(checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent)
    total = sum(group.nbytes for group in groups)
    texts = {"config.json": _config(checkpoint, name, targets)}
    names = _part_names(len(parts))
    if len(parts) > 1:
        texts[_INDEX] = _index(parts, names, total)
    made = _make_folder(target)
    done = 0

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if progress is not None:
            progress(done, total)

    try:
        files = [target / name for name in (*texts, *(path.name for path in copies), *names)]
        room = total + sum(len(header(part)) for part in parts) + sum(path.stat().st_size for path in copies)
        with NewFiles(files, room) as new:
            for text in texts.values():
                new.create().write(text)
            for path in copies:
                new.create().write(path.read_bytes())
            for part in parts:
                write_file(new.create(), part, count)
            return new.publish()
    except BaseException:
        if made:
            with suppress(OSError):
                target.rmdir()
        raise


def _make_folder(target: Path) -> bool:
    """Make the folder; return whether it is new. Raises InvalidRequest unless it is empty."""
    if target.is_dir() and not any(target.iterdir()):
        return False
    if target.exists():
        raise InvalidRequest(
            f"{target} exists already", field="target", hint="name a folder that is not there yet"
        )
    try:
        target.mkdir()
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be made: {(error.strerror or str(error)).lower()}"
        ) from error
    return True


def _part_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def _copies(folder: Path) -> list[Path]:
    """Return the files that go along as they are: tokenizer, template, sampling defaults, licence."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.name.startswith(".")
        and path.suffix not in _WEIGHTS
        and path.name != "config.json"
        and not path.name.endswith(".index.json")
        and path.stat().st_size <= _LARGEST_COPY
    ]


def _config(checkpoint: Checkpoint, name: str, targets: dict[str, DType]) -> bytes:
    """Return config.json with what transformers' BitsAndBytesConfig writes into it."""
    four = name != "int8"
    kept = [
        info.name.removesuffix(".weight")
        for info in checkpoint.infos.values()
        if len(info.shape) > 1 and info.name not in targets
    ]
    stored = next((kind for kind in checkpoint.dtype_counts() if kind in _DTYPES), "bf16")
    said = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": four,
        "load_in_8bit": not four,
        "_load_in_4bit": four,
        "_load_in_8bit": not four,
        "bnb_4bit_compute_dtype": _DTYPES[stored],
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": name if four else "fp4",
        "bnb_4bit_use_double_quant": four,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": sorted({"lm_head", *kept}),
        "llm_int8_threshold": bnb.OUTLIERS,
    }
    return _json({**checkpoint.config, "quantization_config": said})


def _index(parts: list[list[NewGroup]], names: list[str], total: int) -> bytes:
    where = {
        entry.name: name
        for part, name in zip(parts, names, strict=True)
        for group in part
        for entry in group.entries
    }
    return _json({"metadata": {"total_size": total}, "weight_map": where})


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _groups(checkpoint: Checkpoint, info: TensorInfo, targets: dict[str, DType]) -> Iterator[NewGroup]:
    """Yield what one tensor becomes."""
    kind = targets.get(info.name)
    if kind is None:
        yield NewGroup(
            (NewEntry(info.name, info.dtype, info.shape, info.nbytes),),
            partial(_copied, checkpoint, info.name),
        )
    elif kind.name == "int8":
        rows, cols = info.shape
        prefix = info.name.removesuffix(".weight")
        largest = NewEntry(f"{prefix}.SCB", "f32", (rows,), 4 * rows)
        matrix = NewEntry(info.name, "i8", info.shape, rows * cols)
        yield NewGroup((largest, matrix), partial(_int8, checkpoint, info.name, kind))
        layout = NewEntry(f"{prefix}.weight_format", "u8", (), 1)
        yield NewGroup((layout,), lambda: (torch.zeros(1, dtype=torch.uint8),))
    else:
        entries = _four_bit_entries(info, kind)
        yield NewGroup(entries, partial(_four_bits, checkpoint, info, kind, entries[-1].nbytes))


def _four_bit_entries(info: TensorInfo, kind: DType) -> tuple[NewEntry, ...]:
    """Describe the tensors of a matrix in four bits; the last one fills them up to a multiple of 8 bytes."""
    count = info.num_weights
    blocks = -(-count // bnb.BLOCK)
    outer = -(-blocks // NESTED_BLOCK)
    floats = (("nested_absmax", outer), ("nested_quant_map", 256), ("quant_map", 16))
    entries = [NewEntry(f"{info.name}.{name}", "f32", (size,), 4 * size) for name, size in floats]
    entries.append(NewEntry(info.name, "u8", (count // 2, 1), count // 2))
    entries.append(NewEntry(f"{info.name}.absmax", "u8", (blocks,), blocks))
    size = _STATE_BYTES + -sum(entry.nbytes for entry in entries) % 8
    entries.append(NewEntry(f"{info.name}.quant_state.bitsandbytes__{kind.name}", "u8", (size,), size))
    return tuple(entries)


def _copied(checkpoint: Checkpoint, name: str) -> Iterator[Tensor]:
    stored = checkpoint.load(name).parts[0]
    yield stored
    checkpoint.forget(stored)


def _quantized(checkpoint: Checkpoint, name: str, kind: DType) -> tuple[Tensor, ...]:
    stored = checkpoint.load(name)
    try:
        return bnb.quantize(stored, kind).parts
    except MullError as error:
        raise type(error)(f"{checkpoint.path.name}: {name}: {error.message}", hint=error.hint) from error
    finally:
        checkpoint.forget(stored.parts[0])


def _int8(checkpoint: Checkpoint, name: str, kind: DType) -> Iterator[Tensor]:
    codes, largest = _quantized(checkpoint, name, kind)
    yield from (largest, codes)


def _four_bits(checkpoint: Checkpoint, info: TensorInfo, kind: DType, size: int) -> Iterator[Tensor]:
    codes, each, outer, table, mean = _quantized(checkpoint, info.name, kind)
    state = {
        "quant_type": kind.name,
        "blocksize": bnb.BLOCK,
        "dtype": _DTYPES.get(info.dtype, "float32"),
        "shape": list(info.shape),
        "nested_blocksize": NESTED_BLOCK,
        "nested_dtype": "float32",
        "nested_offset": mean.item(),
    }
    text = json.dumps(state).encode().ljust(size)
    yield from (outer, table, torch.tensor(LEVELS[kind.name]), codes, each)
    yield torch.frombuffer(bytearray(text), dtype=torch.uint8)
