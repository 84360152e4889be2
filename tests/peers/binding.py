"""llama.cpp, through llama-cpp-python's low-level interface: exact logits, greedy choices, ids, quantized files."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, TracebackType

import numpy as np

F32 = 0
FLASH_ATTENTION_OFF = 0


@cache
def library() -> ModuleType:
    """Return llama_cpp's functions, with the log switched off."""
    from llama_cpp import llama_cpp as native

    @native.llama_log_callback
    def silent(level: int, text: bytes, data: object) -> None:
        pass

    native.llama_log_set(silent, ctypes.c_void_p(0))
    native.silent = silent  # the callback must outlive its use
    native.llama_backend_init()
    return native


@dataclass(frozen=True, slots=True)
class Greedy:
    """The ids that the largest logits choose, and by how much each led the second largest."""

    ids: list[int]
    margins: list[float]


class Peer:
    """A GGUF file in llama.cpp, computed in float32 where the file is: F32 cache, no flash attention.

    vocab_only: only its tokenizer.
    """

    def __init__(self, path: Path, num_ctx: int = 256, *, vocab_only: bool = False) -> None:
        self.native = library()
        params = self.native.llama_model_default_params()
        params.vocab_only = vocab_only
        params.n_gpu_layers = 0
        self.context = None
        self.model = self.native.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, f"llama.cpp does not load {path}"
        self.vocab = self.native.llama_model_get_vocab(self.model)
        self.vocab_size = self.native.llama_vocab_n_tokens(self.vocab)
        self.num_ctx = num_ctx
        if not vocab_only:
            self.context = self.native.llama_init_from_model(self.model, self._context_params(num_ctx))
            assert self.context, f"llama.cpp makes no context for {path}"

    def _context_params(self, num_ctx: int) -> ctypes.Structure:
        params = self.native.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = num_ctx
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = F32
        params.flash_attn_type = FLASH_ATTENTION_OFF
        params.swa_full = True
        return params

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.context:
            self.native.llama_free(self.context)
        self.native.llama_model_free(self.model)

    def clear(self) -> None:
        """Forget every token."""
        self.native.llama_memory_clear(self.native.llama_get_memory(self.context), True)

    def feed(self, ids: Sequence[int], start: int = 0) -> np.ndarray:
        """Compute ids at positions start and on; returns float32 logits [len(ids), vocab]."""
        native = self.native
        batch = native.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i] = token, start + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
        assert native.llama_decode(self.context, batch) == 0
        native.llama_batch_free(batch)
        rows = np.ctypeslib.as_array(native.llama_get_logits(self.context), (len(ids), self.vocab_size))
        return rows.copy()

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Return float32 logits [len(ids), vocab] of one window on its own."""
        self.clear()
        return self.feed(ids)

    def greedy(self, prompt: Sequence[int], count: int, banned: Collection[int] = ()) -> Greedy:
        """Continue the prompt by `count` of the likeliest tokens that are not banned."""
        ids: list[int] = []
        margins: list[float] = []
        last = self.logits(prompt)[-1]
        for _ in range(count):
            last[list(banned)] = -np.inf
            second, first = np.partition(last, -2)[-2:]
            margins.append(float(first - second))
            ids.append(int(last.argmax()))
            last = self.feed(ids[-1:], len(prompt) + len(ids) - 1)[-1]
        return Greedy(ids, margins)

    def tokenize(self, text: str, *, special: bool, parse_special: bool) -> list[int]:
        """Return a text's ids; special: with BOS and EOS as the vocabulary says."""
        data = text.encode()
        size = len(data) + 8
        tokens = (self.native.llama_token * size)()
        count = self.native.llama_tokenize(self.vocab, data, len(data), tokens, size, special, parse_special)
        assert count >= 0
        return list(tokens[:count])

    @property
    def bos(self) -> list[int]:
        """BOS, where the vocabulary wants one before a text."""
        if not self.native.llama_vocab_get_add_bos(self.vocab):
            return []
        return [self.native.llama_vocab_bos(self.vocab)]


def quantize(source: Path, target: Path, file_type: str, *, importance: bool = False) -> Path:
    """Write `source` in a file type such as "Q4_K_M"; "F32" dequantizes.

    importance: weigh every column alike, but explicitly, as the types below 3 bits demand.
    """
    native = library()
    params = native.llama_model_quantize_default_params()
    name = "ALL_F32" if file_type == "F32" else f"MOSTLY_{file_type}"
    params.ftype = getattr(native, f"LLAMA_FTYPE_{name}")
    params.nthread = 1
    params.allow_requantize = True
    if importance:
        params.imatrix = _equal_importance(source)
    assert native.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) == 0
    return target


def _equal_importance(path: Path) -> ctypes.Array[ctypes.Structure]:
    """Return a weight of one for every column of every matrix, ended by an empty entry."""
    from gguf import GGUFReader

    entries = []
    for tensor in GGUFReader(path).tensors:
        columns, *rows = tensor.shape.tolist()
        if rows:
            size = columns * (rows[1] if len(rows) > 1 else 1)
            ones = (ctypes.c_float * size)(*[1.0] * size)
            entries.append(library().llama_model_imatrix_data(tensor.name.encode(), ones, size))
    return (library().llama_model_imatrix_data * (len(entries) + 1))(*entries)
