"""The house stays in order: imports go down, never round; every file says what it knows; none grows too long."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = [
    *("cli", "server", "rag", "llm", "chat", "runtime", "models", "quant", "kernels"),
    *("registry", "settings", "errors"),
]
BESIDE = {"chat", "runtime", "models", "quant", "kernels"}
BANNED = {"utils", "util", "common", "helpers", "helper", "misc", "core"}
MAX_LINES, MAX_FUNCTION = 400, 60

LONG_FILES: dict[str, str] = {}
"""Files over MAX_LINES that may stay so, each with its reason."""

LONG_FUNCTIONS: dict[str, str] = {}
"""Functions over MAX_FUNCTION lines that may stay so, each with its reason."""

FILES = sorted(
    path for folder in (*ORDER, "bench", "tests") for path in (ROOT / folder).rglob("*.py")
) + sorted(ROOT.glob("*.py"))
SOURCES = [path for path in FILES if path.relative_to(ROOT).parts[0] not in ("bench", "tests")]


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_of(path): path for path in SOURCES}


def checked_for_types_only(tree: ast.Module) -> set[int]:
    """Return the ids of nodes under `if TYPE_CHECKING`, which never run."""
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imports(path: Path, with_types: bool = True) -> set[tuple[str, ...]]:
    """Return our modules that a file imports, at its top or inside a function."""
    tree = ast.parse(path.read_text())
    skipped = set() if with_types else checked_for_types_only(tree)
    package = module_of(path) if path.name == "__init__.py" else module_of(path)[:-1]
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name.split(".")[0] != "mull", f"{path}: import ours relatively"
        if isinstance(node, ast.ImportFrom):
            if not node.level:
                assert (node.module or "").split(".")[0] != "mull", f"{path}: import ours relatively"
                continue
            base = package[: len(package) - node.level + 1] + tuple((node.module or "").split("."))
            base = tuple(part for part in base if part)
            for alias in node.names:
                found.add((*base, alias.name) if (*base, alias.name) in MODULES else base)
    return found & set(MODULES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    if not module_of(path):
        return
    here = module_of(path)[0]
    for target in imports(path):
        if not target:
            continue
        assert ORDER.index(here) <= ORDER.index(target[0]), (
            f"{here} imports {target[0]}, which stands above it"
        )
        assert not (here in BESIDE and target[0] in ("registry", "settings")), f"{here} imports {target[0]}"
        if here == "registry":
            assert target[0] in ("registry", "settings", "errors")


def test_no_circles():
    graph = {module: imports(path, with_types=False) - {module} for module, path in MODULES.items()}
    state: dict[tuple[str, ...], int] = {}

    def visit(module: tuple[str, ...], trail: list[tuple[str, ...]]) -> None:
        if state.get(module) == 2:
            return
        circle = [".".join(part) for part in trail[trail.index(module) :]] if module in trail else []
        assert not circle, f"a circle: {' > '.join(circle)}"
        for target in graph[module]:
            visit(target, [*trail, module])
        state[module] = 2

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_opens_with_a_sentence(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = docstring.splitlines()[0] if docstring else ""
    assert first.endswith((".", ":")), f"the first line of {path.name} is no sentence: {first!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_say_something(path):
    assert not BANNED & set(module_of(path)[-1:]), f"{path.name} says nothing of what it holds"


def test_files_stay_short():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert set(long) == set(LONG_FILES), f"over {MAX_LINES} lines: {long}"


def test_functions_stay_short():
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = length
    assert set(long) == set(LONG_FUNCTIONS), f"over {MAX_FUNCTION} lines: {long}"


def test_the_environment_has_one_reader():
    readers = [p for p in SOURCES if "os.environ" in p.read_text() or "getenv" in p.read_text()]
    assert [str(p.relative_to(ROOT)) for p in readers] == ["settings.py"]


def test_packages_are_all_listed():
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(("mull", *module_of(p))) for p in SOURCES if p.name == "__init__.py"}
    assert listed == found


@pytest.mark.parametrize(
    "module", ["mull", "mull.cli.main", "mull.cli.list", "mull.registry.store", "mull.cli.tokenize"]
)
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'numpy', 'gguf', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
