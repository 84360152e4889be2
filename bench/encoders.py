"""Compare mull's encoders with llama-quantize's: the perplexity that llama-perplexity finds for files of both.

    python bench/encoders.py --tools ~/llama.cpp/build/bin --types Q4_K_M,Q3_K_S --copies 8

The demo model is too small for one pair of files to say much: where rounding falls differently its perplexity moves
by a per cent either way. So both programs quantize copies of it whose channels are in another order, which compute
the same function but fall into other blocks; both get the copy's own importance matrix. The text is conversations such
as the model learned, without control tokens, which llama-perplexity does not read from a text; the model first learns
such texts as a whole (minutes), for it has learned only what the assistant says. A ratio is ours over theirs: its mean
over the copies, and two standard errors of that mean.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from mull.models.pocket.dialogues import Mix, make_dialogue
from mull.models.pocket.export import load_model, write_gguf
from mull.models.pocket.problems import MAX_SIZE
from mull.models.pocket.rows import Batch, loss_of
from mull.models.pocket.tokens import CONTROL_TOKENS
from programs import run
from target import DEMO, llama_quantize, llm

TYPES = (
    "Q6_K,Q5_K_M,Q5_K_S,Q4_K_M,Q4_K_S,IQ4_NL,IQ4_XS,Q3_K_L,Q3_K_M,Q3_K_S,IQ3_S,IQ3_XXS,Q2_K,Q2_K_S,"
    "IQ2_S,IQ2_XS,IQ2_XXS"
)
LEARNED, CALIBRATION, TEXT = 5000, 400, 500  # conversations
ROWS, LEARNING_RATE = 12, 1e-3
CONTEXT = 512
HIDDEN_ROWS = ("attn_output", "ffn_down")  # these write to the residual stream, the other matrices read it
INNER_ROWS = ("ffn_gate", "ffn_up")


def conversations(seed: int, count: int) -> str:
    """Return a text of conversations."""
    rng = random.Random(seed)
    drawn = (make_dialogue(rng, Mix(), dict(MAX_SIZE)) for _ in range(count))
    text = "".join("".join(part.text for part in parts) + "\n" for parts in drawn)
    for token in CONTROL_TOKENS:
        text = text.replace(token, "")
    return text


def learn_texts(path: Path) -> None:
    """Write the demo model in float32 after it has learned such texts."""
    network, tokenizer = load_model(DEMO)
    ids = torch.tensor(tokenizer.encode(conversations(0, LEARNED)).ids)
    rows = ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    batches = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))].split(ROWS)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98))
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, 1.5 * (1 - step / len(batches)))
        loss = loss_of(network, Batch(batch, torch.ones_like(batch, dtype=torch.bool)))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    write_gguf(path, network, tokenizer, "f32")


def reorder(path: Path, seed: int) -> None:
    """Put the residual stream's channels and the inner ones of each feed-forward layer into a random order."""
    rng = np.random.default_rng(seed)
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(path, "r+").tensors}
    hidden = rng.permutation(tensors["output_norm.weight"].size)
    ups = {name.partition(".ffn_up")[0]: data for name, data in tensors.items() if ".ffn_up" in name}
    inner = {block: rng.permutation(len(data)) for block, data in ups.items()}
    for name, data in tensors.items():
        block, _, part = name.removesuffix(".weight").rpartition(".")
        if part in HIDDEN_ROWS:
            data[:] = data[hidden]
        elif data.shape[-1] == hidden.size:
            data[:] = data[..., hidden]
        if part in INNER_ROWS:
            data[:] = data[inner[block]]
        elif part == "ffn_down":
            data[:] = data[:, inner[block]]


def perplexity(tools: Path, model: Path, text: Path) -> float:
    """Return what llama-perplexity says."""
    for _ in range(5):  # the program's last lines are sometimes lost
        said = run(tools / "llama-perplexity", "-m", model, "-f", text, "-c", CONTEXT, "-t", 2)
        if found := re.search(r"Final estimate: PPL = ([0-9.]+)", said):
            return float(found[1])
    raise SystemExit(f"error: llama-perplexity gave no estimate for {model.name}")


def main() -> None:
    """Print a line for each type."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", type=Path, required=True, help="the folder of llama.cpp's programs")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--copies", type=int, default=8)
    args = parser.parse_args()
    types = args.types.split(",")
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in types}
    plain = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration, text = folder / "calibration.txt", folder / "text.txt"
        calibration.write_text(conversations(1, CALIBRATION))
        text.write_text(conversations(2, TEXT))
        original, source, imatrix, target = (
            folder / name for name in ("original.gguf", "copy.gguf", "imatrix.gguf", "quantized.gguf")
        )
        learn_texts(original)
        for seed in range(args.copies):
            shutil.copy(original, source)
            reorder(source, seed)
            llm("imatrix", source, "-f", calibration, "-o", imatrix, "-c", CONTEXT)
            plain.append(perplexity(args.tools, source, text))
            for kind in types:
                llm("quantize", source, target, kind, "--imatrix", imatrix)
                ours = perplexity(args.tools, target, text)
                target.unlink()
                llama_quantize(args.tools / "llama-quantize", source, target, kind, imatrix)
                found[kind].append((ours, perplexity(args.tools, target, text)))
                target.unlink()
            imatrix.unlink()
    print(f"unquantized: {min(plain):.4f} to {max(plain):.4f} in {args.copies} copies")
    print(f"{'type':<9} {'mull':>9} {'llama.cpp':>10}  ratio")
    for kind, pairs in found.items():
        logs = [math.log(ours / theirs) for ours, theirs in pairs]
        error = 2 * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
        means = [statistics.geometric_mean(column) for column in zip(*pairs, strict=True)]
        print(f"{kind:<9} {means[0]:>9.4f} {means[1]:>10.4f}  {statistics.mean(logs):+.2%} ± {error:.2%}")


if __name__ == "__main__":
    main()
