"""`llm quantize DIR OUT nf4`: a folder that transformers loads, quantized by bitsandbytes."""

from __future__ import annotations

import time
from pathlib import Path

from ..errors import InvalidRequest
from .formats import human_bytes, printable
from .progress import BYTES, ProgressLine, clock_text
from .quantize_flags import FileFlags, MixtureFlags
from .terminal import Terminal


def write_folder(
    source: str, target: Path | None, kind: str, terminal: Terminal, threads: int | None, *, quiet: bool
) -> dict[str, object]:
    """Quantize a folder of safetensors into another; return what `--json` prints."""
    from ..models.checkpoint.open import open_checkpoint
    from ..registry.target import find_target

    if target is None:
        raise InvalidRequest(f"{kind} needs a folder to write to", hint=f"llm quantize {source} OUT {kind}")
    found = find_target(source)
    started = time.monotonic()
    line = ProgressLine(terminal, "quantizing", BYTES, enabled=not quiet)
    line.announce()
    try:
        from ..kernels.device import choose_threads, set_threads
        from ..models.bnb_folder import save_folder

        set_threads(choose_threads(threads))
        with open_checkpoint(found.path) as checkpoint:
            before = checkpoint.nbytes
            written = save_folder(checkpoint, target, kind, line.update)
    finally:
        line.clear()
    nbytes = sum(path.stat().st_size for path in written if path.suffix == ".safetensors")
    seconds = time.monotonic() - started
    if not quiet:
        terminal.note(
            f"{printable(str(target))}: {human_bytes(nbytes)} (before: {human_bytes(before)}), "
            f"in {clock_text(seconds)}"
        )
    return {"type": kind, "bytes": nbytes, "files": list(map(str, written)), "seconds": round(seconds, 3)}


def check_flags(kind: str, mixture: MixtureFlags, files: FileFlags, *, dry_run: bool) -> None:
    """Raise InvalidRequest for options that only GGUF files have."""
    if dry_run or mixture != MixtureFlags() or files != FileFlags():
        raise InvalidRequest(
            f"{kind} writes a folder for transformers, which has no mixtures, names or parts to choose",
            field="type",
            hint=f"llm quantize SRC OUT {kind} takes --threads, --json and --quiet only",
        )
