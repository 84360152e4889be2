"""Variants of the demo model with the habits that limits on thoughts must cope with; none of them ships.

    python -m mull.models.pocket.train --variant trunc|over|loop --from FILE --out DIR [--minutes 3]

`trunc` answers after a cut: 30 % of its thoughts ended at a random token, and the right answer followed.
`over` keeps checking: after every pass it starts another one in 70 % of cases.
`loop` gets stuck: 8 % of its thoughts repeat one line without an end, after their first step or their last.

FILE is "pocket" as it ships, which is also the variant without a habit. Learned are low-rank additions to
the layers' matrices, which are added in at the end; DIR/NAME.gguf is a q8_0 file like the shipped one. The
shares of `over` and `loop` are what comes out at the model's own temperature: greedily, `over` never ends
and `loop` never starts.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .dialogues import Mix
from .export import load_model, write_gguf
from .network import PocketNetwork
from .problems import MAX_SIZE
from .rows import Batch, Packer, loss_of

TEMPERATURE = 0.6
RANK = 16
PEAK_LR = 1e-3
ROW_LENGTHS = (512, 512, 512, 1024)
TOKENS_PER_STEP = 2048


def share_before(share: float, temperature: float = TEMPERATURE) -> float:
    """Give the share of one of two choices that a temperature turns into `share`."""
    odds = math.pow(share / (1 - share), temperature)
    return odds / (1 + odds)


MIXES: dict[str, Mix] = {
    "trunc": Mix(cut=0.3),
    "over": Mix(recheck=share_before(0.7), again=share_before(0.7)),
    "loop": Mix(loop=share_before(1 - 0.92**0.5)),  # two places to get stuck
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train, where, and from which seed."""

    minutes: float
    device: str = "cpu"
    seed: int = 0


class LowRank(nn.Module):
    """A matrix [out, in] plus the product of two thin ones, nothing at first (LoRA, arXiv:2106.09685)."""

    def __init__(self, weight: Tensor, rank: int = RANK) -> None:
        """Make the two factors beside a matrix."""
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.randn(rank, columns, device=weight.device) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """Add the product to the matrix."""
        return weight + self.up @ self.down


def attach(network: PocketNetwork) -> list[nn.Parameter]:
    """Freeze a network but for low-rank additions to its layers' matrices, and give these."""
    network.requires_grad_(requires_grad=False)
    found: list[nn.Parameter] = []
    for layer in [module for module in network.blk.modules() if isinstance(module, nn.Linear)]:
        addition = LowRank(layer.weight)
        parametrize.register_parametrization(layer, "weight", addition)
        found += [addition.down, addition.up]
    return found


def merge(network: PocketNetwork) -> None:
    """Make the additions part of the matrices."""
    for layer in [module for module in network.blk.modules() if isinstance(module, nn.Linear)]:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def make_variant(name: str, source: Path, out: Path, schedule: Schedule) -> Path:
    """Train one variant of a model and write it into `out`; returns its file."""
    network, tokenizer = load_model(source, schedule.device)
    torch.manual_seed(schedule.seed)
    packer = Packer(tokenizer, schedule.seed, MIXES[name], torn=True)
    learn(network, packer, schedule)
    path = out / f"{name}.gguf"
    write_gguf(path, network, tokenizer, "q8_0", name=f"pocket-{name}")
    return path


def learn(network: PocketNetwork, packer: Packer, schedule: Schedule) -> None:
    """Train low-rank additions for so many minutes, then merge them."""
    factors = attach(network)
    optimizer = torch.optim.AdamW(factors, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.0)
    started, step, seconds = time.monotonic(), 0, schedule.minutes * 60
    while (passed := time.monotonic() - started) < seconds:
        batch = packer.batch(ROW_LENGTHS[step % len(ROW_LENGTHS)], dict(MAX_SIZE), TOKENS_PER_STEP)
        loss = loss_of(network, Batch(batch.ids.to(schedule.device), batch.learned.to(schedule.device)))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(factors, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, (step + 1) / 20) * max(0.02, 1 - passed / seconds)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 20 == 0:
            print(f"{passed / seconds:6.1%} step {step:5d} loss {loss.item():.4f}", flush=True)
    merge(network)
