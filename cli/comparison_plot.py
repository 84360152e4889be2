"""A comparison of two models as a picture; needs matplotlib, which is optional."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, NotSupported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..models.difference import WeightError
    from ..runtime.divergence import Scores
    from .comparison import Report

_ENDINGS = (".png", ".svg", ".pdf")
_SIZE = (5.0, 4.0)  # inches of one panel
_LEAST_KL = 1e-7


def check_plot(path: Path) -> None:
    """Raise what would keep a picture from being drawn, before anything is computed for it."""
    if path.suffix.lower() not in _ENDINGS:
        known = ", ".join(_ENDINGS)
        raise InvalidRequest(f"{path}: pictures end in {known}", field="plot", hint="--plot loss.png")
    if not path.parent.is_dir():
        raise InvalidRequest(f"{path.parent}: no such folder", field="plot")
    if find_spec("matplotlib") is None:
        raise NotSupported(
            "pictures need matplotlib, which is not installed", field="plot", hint='pip install "mull[plot]"'
        )


def draw(report: Report, path: Path) -> None:
    """Draw how the divergence and the change of probabilities spread over tokens, and which tensors differ."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 3 if report.errors else 2
    figure = Figure(figsize=(_SIZE[0] * panels, _SIZE[1]), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, at + 1) for at in range(panels)]
    _draw_divergence(axes[0], report.scores)
    _draw_change(axes[1], report.scores)
    if report.errors:
        _draw_errors(axes[2], report.errors)
    kl = report.result.kl
    names = f"{Path(report.other.name).name} against {Path(report.base.name).name}"
    figure.suptitle(f"{names}: KL divergence {kl.value:.4g} ± {kl.error:.2g}".replace("$", r"\$"))
    figure.savefig(path, dpi=150)


def _draw_divergence(axes: Axes, scores: Scores) -> None:
    """Draw which share of tokens diverges by more than so much."""
    import numpy as np

    values = np.sort(scores.kl[np.isfinite(scores.kl)])[::-1]
    shares = np.arange(1, len(values) + 1) / max(1, len(values))
    axes.plot(np.maximum(values, _LEAST_KL), shares)
    axes.set(xscale="log", yscale="log", xlabel="KL divergence of a token, nats", ylabel="tokens above")
    axes.grid(visible=True, alpha=0.3)


def _draw_change(axes: Axes, scores: Scores) -> None:
    """Draw how the right token's probability changed."""
    axes.hist(scores.delta_p, bins=81, range=(-1, 1))
    axes.set(yscale="log", xlabel="Δp of the token that came", ylabel="tokens")
    axes.grid(visible=True, alpha=0.3)


def _draw_errors(axes: Axes, errors: list[WeightError]) -> None:
    """Draw the errors of a layer's matrices by layer, a line for each kind; others stand at the left."""
    from matplotlib.ticker import MaxNLocator

    kinds: dict[str, list[tuple[int, float]]] = {}
    for error in errors:
        match = re.match(r"(?:blk|model\.layers)\.(\d+)\.(.+?)(?:\.weight)?$", error.name)
        layer, kind = (int(match[1]), match[2]) if match else (-1, error.name.removesuffix(".weight"))
        kinds.setdefault(kind, []).append((layer, error.error))
    for kind, points in sorted(kinds.items()):
        layers, values = zip(*sorted(points), strict=True)
        axes.plot(layers, values, marker=".", label=kind)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="layer", ylabel="relative RMSE of weights", ylim=(0, None))
    axes.legend(fontsize="x-small", ncols=2)
    axes.grid(visible=True, alpha=0.3)
