"""Writes small GGUF files for tests: valid ones by the gguf package, and any bytes by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np

Value = str | bool | int | float | Sequence[object]


class Typed:
    """A metadata value with an explicit GGUF type, such as Typed(3, GGUFValueType.UINT64)."""

    def __init__(self, value: object, kind: gguf.GGUFValueType, sub: gguf.GGUFValueType | None = None):
        self.value, self.kind, self.sub = value, kind, sub


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value | Typed] | None = None,
    tensors: Mapping[str, np.ndarray | tuple[np.ndarray, str]] | None = None,
    *,
    architecture: str = "llama",
    alignment: int = 32,
) -> Path:
    """Write a GGUF file and return its path.

    A tensor is a float array (stored in its own type) or (array, type name): float data is quantized
    to that type when the gguf package can; uint8 data are taken as the packed bytes [..., row_bytes].
    Integers become UINT32 when they fit, as most of GGUF's keys are.
    """
    writer = gguf.GGUFWriter(path, architecture)
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    for key, value in (metadata or {}).items():
        _add_pair(writer, key, value)
    for name, tensor in (tensors or {}).items():
        data, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        if kind is None:
            writer.add_tensor(name, data)
            continue
        raw = gguf.GGMLQuantizationType[kind.upper()]
        packed = data if data.dtype == np.uint8 else gguf.quants.quantize(data, raw)
        writer.add_tensor(name, packed, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def raw_string(text: str | bytes) -> bytes:
    """Encode a string as GGUF does: its length in 8 bytes, then itself."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def raw_pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    """Encode a metadata pair; `value` is already encoded."""
    return raw_string(key) + struct.pack("<I", kind) + value


def raw_array(kind: int, count: int, elements: bytes) -> bytes:
    """Encode an array's value; `elements` are already encoded."""
    return struct.pack("<IQ", kind, count) + elements


def raw_tensor(name: str | bytes, dims: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """Encode a tensor's entry; dims are in GGUF's order, innermost first."""
    return raw_string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def raw_gguf(
    pairs: Sequence[bytes] = (), tensors: Sequence[bytes] = (), data: bytes = b"", *, version: int = 3
) -> bytes:
    """Assemble a GGUF file from encoded pieces, with the data aligned to 32 bytes."""
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join([*pairs, *tensors])
    return header + bytes(-len(header) % 32) + data


def random_blocks(kind: str, num_blocks: int, seed: int = 0) -> np.ndarray:
    """Return random blocks of a type, uint8 [num_blocks, block_bytes], whose scales are finite."""
    _, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.upper()]]
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (num_blocks, nbytes), dtype=np.uint8)
    for at in _HALVES.get(kind, ()):
        scales = rng.uniform(-0.1, 0.1, num_blocks).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(num_blocks, 2)
    if kind == "mxfp4":
        blocks[:, 0] = rng.integers(110, 135, num_blocks)
    if kind == "nvfp4":
        blocks[:, 0:4] = rng.integers(0, 0x7F, (num_blocks, 4))
    if kind == "iq1_m":  # the float16 scale is spread over the upper nibbles of the last eight bytes
        scales = rng.uniform(0.001, 0.1, num_blocks).astype(np.float16).view(np.uint16)
        for i in range(4):
            nibble = ((scales >> (4 * i)) & 15).astype(np.uint8)
            blocks[:, 49 + 2 * i] = (blocks[:, 49 + 2 * i] & 15) | (nibble << 4)
    return blocks


# Where each format keeps its float16 scales.
_HALVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(["q4_0", "q5_0", "q8_0", "iq4_nl", "iq4_xs"], (0,)),
    **dict.fromkeys(["q4_1", "q5_1", "q4_k", "q5_k"], (0, 2)),
    **dict.fromkeys(["iq1_s", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s"], (0,)),
    "q2_k": (80, 82),
    "q3_k": (108,),
    "q6_k": (208,),
    "tq1_0": (52,),
    "tq2_0": (64,),
}


def _add_pair(writer: gguf.GGUFWriter, key: str, value: Value | Typed) -> None:
    if isinstance(value, Typed):
        writer.add_key_value(key, value.value, value.kind, value.sub)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        add = writer.add_uint32 if 0 <= value < 1 << 32 else writer.add_int64
        add(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
