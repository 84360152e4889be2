"""Train the demo model "pocket" and write its GGUF files.

    python -m mull.models.pocket.train --out DIR [--minutes 50] [--device auto] [--seed 0]
    python -m mull.models.pocket.train --evaluate FILE
    python -m mull.models.pocket.train --variant trunc|over|loop --from FILE --out DIR [--minutes 3]

The first writes `pocket-q8_0.gguf` (the file that ships) and `pocket-f32.gguf`, and continues from
`DIR/checkpoint.pt` when it was interrupted. The second prints how many held-out problems a GGUF or a
checkpoint solves with and without its thought. The third retrains a little of a model into a variant with
a habit (see variants.py) and writes DIR/NAME.gguf. Data are endless generated conversations; only what
the assistant says is learned.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from .dialogues import Mix
from .evaluate import evaluate, format_table
from .export import load_model, write_gguf
from .network import PocketConfig, PocketNetwork
from .problems import KINDS, MAX_SIZE, Kind
from .rows import Batch, Packer, loss_of
from .tokens import build_tokenizer, train_tokenizer, vocabulary
from .variants import MIXES, Schedule, make_variant

PEAK_LR = 3e-3


@dataclass(slots=True)
class State:
    """What an interrupted training needs to go on."""

    network: PocketNetwork
    optimizers: list[torch.optim.Optimizer]
    tokenizer: Tokenizer
    step: int = 0
    seconds: float = 0.0


def sizes_at(progress: float) -> dict[Kind, int]:
    """Give the longest problems drawn at this point: from a third of each length to all of it."""
    share = min(1.0, 0.34 + 0.66 * progress / 0.3)
    return {kind: max(2, round(MAX_SIZE[kind] * share)) for kind in KINDS}


def row_length_at(progress: float) -> int:
    """Give the row length at this point: short rows teach fastest, long ones the far positions."""
    return 256 if progress < 0.5 else 512 if progress < 0.92 else 2048


def learning_rate_at(progress: float, step: int) -> float:
    """Give the learning rate: a short warmup, a plateau, then a straight line down."""
    return PEAK_LR * min(1.0, (step + 1) / 50, max(0.01, (1.0 - progress) / 0.65))


def new_state(seed: int, device: str) -> State:
    """Start a training: Muon for the layers' matrices, AdamW for the embedding and the norms."""
    torch.manual_seed(seed)
    network = PocketNetwork(PocketConfig()).to(device)
    matrices = [w for name, w in network.named_parameters() if w.dim() == 2 and name.startswith("blk")]
    others = [w for name, w in network.named_parameters() if w.dim() != 2 or not name.startswith("blk")]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=PEAK_LR, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    return State(network, optimizers, train_tokenizer(seed))


def save_state(state: State, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    _, merges = vocabulary(state.tokenizer)
    part = path.with_suffix(".part")
    content = {
        "config": asdict(state.network.config),
        "network": state.network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "merges": merges,
        "step": state.step,
        "seconds": state.seconds,
    }
    torch.save(content, part)
    part.replace(path)


def load_state(path: Path, seed: int, device: str) -> State:
    """Read a checkpoint back, or start anew where there is none."""
    state = new_state(seed, device)
    if path.exists():
        content = torch.load(path, map_location=device, weights_only=True)
        state.network.load_state_dict(content["network"])
        for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        state.tokenizer = build_tokenizer(content["merges"])
        state.step, state.seconds = content["step"], content["seconds"]
    return state


def train(out: Path, minutes: float, device: str, seed: int) -> State:
    """Train for so many minutes in all, checkpointing as it goes."""
    path = out / "checkpoint.pt"
    state = load_state(path, seed, device)
    packer = Packer(state.tokenizer, seed * 1_000_003 + state.step, Mix())
    started, saved, tokens = time.monotonic() - state.seconds, time.monotonic(), 0
    begun = time.monotonic()
    for progress in _progress(state, started, minutes * 60):
        batch = packer.batch(row_length_at(progress), sizes_at(progress))
        batch = Batch(batch.ids.to(device), batch.learned.to(device))
        loss = loss_of(state.network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(progress, state.step)
            optimizer.step()
            optimizer.zero_grad()
        state.step += 1
        tokens += batch.ids.numel()
        if state.step % 20 == 0:
            rate = tokens / (time.monotonic() - begun)
            print(
                f"{progress:6.1%} step {state.step:5d} loss {loss.item():.4f} {rate:6.0f} tok/s", flush=True
            )
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            state.seconds = saved - started
            save_state(state, path)
    state.seconds = max(state.seconds, time.monotonic() - started)
    save_state(state, path)
    return state


def _progress(state: State, started: float, seconds: float) -> Iterator[float]:
    while (passed := time.monotonic() - started) < seconds:
        yield passed / seconds


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m mull.models.pocket.train", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the GGUF files and the checkpoint")
    parser.add_argument("--minutes", type=float, help="how long to train (50; a variant: 3)")
    parser.add_argument("--variant", choices=sorted(MIXES), help="retrain a model into this variant")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="the model to retrain")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", type=Path, metavar="FILE", help="a GGUF or checkpoint to evaluate")
    parser.add_argument("--problems", type=int, default=100, help="held-out problems per kind to evaluate on")
    args = parser.parse_args()
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.evaluate is not None:
        network, tokenizer = load_model(args.evaluate, device)
    elif args.variant is not None:
        if args.source is None or args.out is None:
            parser.error("--variant needs --from and --out")
        args.out.mkdir(parents=True, exist_ok=True)
        schedule = Schedule(3.0 if args.minutes is None else args.minutes, device, args.seed)
        network, tokenizer = load_model(make_variant(args.variant, args.source, args.out, schedule), device)
    elif args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        state = train(args.out, 50.0 if args.minutes is None else args.minutes, device, args.seed)
        for dtype in ("q8_0", "f32"):
            write_gguf(args.out / f"pocket-{dtype}.gguf", state.network, state.tokenizer, dtype)
        network, tokenizer = load_model(args.out / "pocket-q8_0.gguf", device)
    else:
        parser.error("--out or --evaluate is needed")
    print(format_table(evaluate(network, tokenizer, args.problems)))


if __name__ == "__main__":
    main()
