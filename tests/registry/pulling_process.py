"""Starts processes that pull a model, to be killed: `python pulling_process.py HUB_URL STORE NAME`.

For each line of standard input it forks one, prints its number, and when it has ended, how. Forking saves
the second that the imports take.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import huggingface_hub.hf_api
import mull.registry.sources.hub
from mull.registry import partial
from mull.registry.pull import PullOptions, pull
from mull.registry.store import Store
from mull.settings import load_remotes

LOADED = (huggingface_hub.hf_api, mull.registry.sources.hub)


def main(url: str, folder: str, name: str) -> None:
    """Fork one pulling process per line."""
    partial.CHUNK = 1 << 20
    remotes = load_remotes({"HOME": folder, "HF_ENDPOINT": url})
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            pull(name, PullOptions(connections=4), store=Store(Path(folder), bundled=None), remotes=remotes)
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
