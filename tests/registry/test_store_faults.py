"""Killed and competing processes leave a store that lists and works."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mull.registry.store import Store

# Creates one model of three blobs again and again, each time another one.
_CREATE = """
import itertools, os, sys
from pathlib import Path
from mull.registry.manifest import CONFIG, MODEL, SYSTEM, Layer, Manifest
from mull.registry.name import ModelName
from mull.registry.store import Store

store = Store(Path(sys.argv[1]), bundled=None)
source = Path(sys.argv[2])
print("ready", flush=True)
for turn in itertools.count():
    source.unlink(missing_ok=True)
    source.write_bytes(os.urandom(1000) * 2000)
    with store.adding() as doomed:
        model = Layer(MODEL, *store.add_blob_from_file(source))
        layers = (model, Layer(SYSTEM, *store.add_blob(b"%d" % turn)))
        config = Layer(CONFIG, *store.add_blob(b"{}"))
        doomed |= {layer.digest for layer in (config, *layers)}
        doomed |= store.write_manifest(ModelName.parse(f"m{turn % 3}"), Manifest(config, layers))
    print(turn, flush=True)
"""

# Creates or removes the same name `turns` times.
_COMPETE = """
import sys
from pathlib import Path
from mull.errors import ModelNotFound
from mull.registry.manifest import CONFIG, MODEL, Layer, Manifest
from mull.registry.name import ModelName
from mull.registry.store import Store

store = Store(Path(sys.argv[1]), bundled=None)
name = ModelName.parse("same")
for turn in range(int(sys.argv[3])):
    try:
        with store.adding() as doomed:
            model = Layer(MODEL, *store.add_blob(b"weights" * 1000))
            layers = (model, Layer(MODEL, *store.add_blob(b"%d" % turn)))
            config = Layer(CONFIG, *store.add_blob(b"{}"))
            doomed |= {layer.digest for layer in (config, *layers)}
            doomed |= store.write_manifest(name, Manifest(config, layers))
        if sys.argv[2] == "remove":
            store.remove(name)
    except ModelNotFound:
        pass
    for entry in store.list():
        pass
"""

# Ends the process at its `sys.argv[3]`-th step that makes a name or makes data durable.
_CRASH = """
import os, pathlib, sys
left = int(sys.argv[3])
def crashing(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return function(*args, **kwargs)
    return call
os.fsync, os.link = crashing(os.fsync), crashing(os.link)
pathlib.Path.replace, pathlib.Path.unlink = crashing(pathlib.Path.replace), crashing(pathlib.Path.unlink)
"""

# Fails when anything but a temporary name or a lock is ever opened for writing inside the store.
_WATCH = """
import os, sys
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, os.PathLike)):
        path, name = os.fspath(args[0]), os.path.basename(args[0])
        writes = args[2] & (os.O_WRONLY | os.O_RDWR)
        harmless = name.startswith(".tmp-") or name.endswith(".lock")
        if path.startswith(sys.argv[1]) and writes and not harmless:
            print("written in place:", path, file=sys.stderr)
            os._exit(7)
sys.addaudithook(watch)
"""

_ONCE = """
import sys
from pathlib import Path
from mull.registry.create import Details, create
from mull.registry.modelfile import Modelfile
from mull.registry.store import Store

store = Store(Path(sys.argv[1]), bundled=None)
text = Path(sys.argv[2], "Modelfile").read_text()
details = Details("gguf", "qwen3")
manifest = create(store, "m", Modelfile.parse(text), base=Path(sys.argv[2]), inspect=lambda path: details)
store.model_path(manifest)
store.copy("m", "n")
store.remove("m")
"""


def check(store: Store) -> None:
    """Every final name holds its content, and every listed model is whole."""
    for path in (store.root / "blobs").glob("sha256-*"):
        assert path.name == "sha256-" + hashlib.sha256(path.read_bytes()).hexdigest()
    for entry in store.list(pytest.fail):  # type: ignore[arg-type]
        store.resolve(entry.name)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", bundled=None)
    moments = random.Random(7)
    for turn in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", _CREATE, str(store.root), str(tmp_path / "source")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(moments.randint(1, 6)):
            assert process.stdout.readline()
        # A few thousand steps of ours land the signal somewhere inside the next creation.
        sum(range(moments.randint(0, 400_000)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        check(store)
        with store.adding() as doomed:
            doomed.add(store.add_blob(b"%d" % turn)[0])
    assert store.list()
    store.prune(grace=0)
    check(store)
    assert not list(store.root.rglob(".tmp-*"))


def test_two_processes_create_and_remove_the_same_model(tmp_path: Path) -> None:
    root = tmp_path / "store"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _COMPETE, str(root), what, "20"], stderr=subprocess.PIPE, text=True
        )
        for what in ("create", "remove")
    ]
    for process in processes:
        _, problems = process.communicate(timeout=60)
        assert process.returncode == 0, problems
    store = Store(root, bundled=None)
    check(store)
    store.prune(grace=0)
    used = {layer.digest for e in store.list() for layer in (e.manifest.config, *e.manifest.layers)}
    assert {path.name.replace("-", ":") for path in (root / "blobs").iterdir()} == used


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"m-0000{number}-of-00002.gguf").write_bytes(b"GGUF%d" % number)
    (folder / "Modelfile").write_text("FROM m-00001-of-00002.gguf\nSYSTEM hi\n")
    return folder


def run(code: str, *arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_no_final_name_is_ever_written_in_place(tmp_path: Path, source: Path) -> None:
    assert run(_WATCH + _ONCE, tmp_path / "store", source) == (0, "")


def test_a_crash_at_each_step(tmp_path: Path, source: Path) -> None:
    store = Store(tmp_path / "store", bundled=None)
    codes = []
    for step in range(1, 60, 4):
        codes.append(run(_CRASH + _ONCE, store.root, source, step)[0])
        check(store)
    assert codes[0] == 9
    assert run(_ONCE, store.root, source) == (0, "")
    store.remove("n")
    store.prune(grace=0)
    assert {path.name for path in store.root.rglob("*") if path.is_file()} == {".lock", ".names.lock"}
