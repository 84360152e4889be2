"""Compare files of one size: mull's mixtures by measured sensitivity with the usual recipe, on the demo model.

    python bench/target.py --type Q4_K_M --llama-quantize ~/llama.cpp/build/bin/llama-quantize

The demo model is unpacked to float32. One text of generated problems is for calibration: one importance matrix,
measured on it, goes to all. Divergences are measured on held-out problems. Without llama-quantize its arm is left out.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from mull.cli.comparison import Wanted, make_report
from mull.cli.main import run_command
from mull.cli.options import ComputeFlags
from mull.cli.terminal import Terminal
from mull.models.pocket.problems import Split, make_problem
from programs import run

DEMO = Path(__file__).resolve().parents[1] / "models" / "pocket" / "pocket-q8_0.gguf"
CALIBRATION, HELD_OUT = 400, 1500  # problems


def problems(path: Path, seed: int, split: Split, count: int) -> Path:
    """Write a text of problems with their steps and answers."""
    rng = random.Random(seed)
    drawn = (make_problem(rng, split=split) for _ in range(count))
    path.write_text("\n".join(f"{p.prompt}\n{p.thought}\n{p.answer}\n" for p in drawn))
    return path


def llm(*words: object) -> None:
    """Run a command of mull; end if it fails."""
    if run_command([*map(str, words), "-q"]) != 0:
        sys.exit(1)


def llama_quantize(program: Path, source: Path, target: Path, kind: str, imatrix: Path) -> Path:
    """Let llama-quantize write a file."""
    run(program, "--imatrix", imatrix, source, target, kind, 2)
    return target


def files(folder: Path, args: argparse.Namespace) -> tuple[Path, dict[str, Path]]:
    """Write the source and the files that are compared."""
    calibration = problems(folder / "calibration.txt", 1, "train", CALIBRATION)
    source, imatrix = folder / "f32.gguf", folder / "imatrix.gguf"
    llm("quantize", DEMO, source, "F32", "--allow-requantize")
    llm("imatrix", source, "-f", calibration, "-o", imatrix, "-c", 512)
    made = {f"recipe, mull {args.type}": folder / "recipe.gguf"}
    llm("quantize", source, folder / "recipe.gguf", args.type, "--imatrix", imatrix)
    size = (folder / "recipe.gguf").stat().st_size
    if args.llama_quantize is not None:
        theirs = llama_quantize(args.llama_quantize, source, folder / "theirs.gguf", args.type, imatrix)
        made[f"recipe, llama-quantize {args.type}"] = theirs
        size = theirs.stat().st_size
    for name, options in {
        "target, imatrix only": ("--imatrix", imatrix),
        "target, imatrix and text": ("--imatrix", imatrix, "--file", calibration),
        "target, text only": ("--file", calibration),
        "target, neither": (),
    }.items():
        made[name] = folder / f"{name.replace(', ', '-').replace(' ', '-')}.gguf"
        llm("quantize", source, made[name], "--target-size", f"{size}B", *options)
    return source, made


def main() -> None:
    """Print a line of JSON for each file, with `--json`, else a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--type", default="Q4_K_M", help="the recipe whose size is aimed at")
    parser.add_argument("--llama-quantize", type=Path, help="llama.cpp's program")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, made = files(folder, args)
        text = problems(folder / "held-out.txt", 2, "heldout", HELD_OUT)
        if not args.json:
            print(
                f"{'file':<34} {'bytes':>9} {'of recipe':>9}  {'KL divergence':<22} {'99 %':>8} {'top 1':>7}"
            )
        first = 0
        for label, path in made.items():
            wanted = Wanted(
                str(source), str(path), text, 512, load=ComputeFlags(), speed=False, weights=False
            )
            result = make_report(wanted, Terminal.detect(color=False), quiet=True).result
            size = path.stat().st_size
            first = first or size
            kl = result.kl
            if args.json:
                figures = {"kl": kl.value, "kl_error": kl.error, "same_top": result.same_top.value}
                print(json.dumps({"file": label, "size": size, **figures}))
                continue
            print(
                f"{label:<34} {size:>9} {size / first:>9.2%}  {kl.value:.6f} ± {kl.error:.6f}   "
                f"{result.kl_spread.p99:>8.4f} {result.same_top.value:>7.2%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
