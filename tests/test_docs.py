"""The documents stay true: their commands, options, paths, names, links and quoted code exist."""

from __future__ import annotations

import ast
import itertools
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
SKIPPED = {".venv", "build", "docs"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return [code for kind, code in FENCE.findall(page.read_text("utf-8")) if kind == language]


def spoken(page: Path) -> list[str]:
    """Return what stands in the page as code: inline pieces, and the lines that a reader would type."""
    lines = "\n".join(blocks(page, "sh")).splitlines()
    lines += [
        line[2:] for code in blocks(page, "text") for line in code.splitlines() if line.startswith("$ ")
    ]
    return INLINE.findall(prose(page)) + lines


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line: pipes and lists come apart, what is no shell yields nothing."""
    reader = shlex.shlex(text, posix=True, punctuation_chars="|;&")
    reader.whitespace_split = True
    try:
        words = list(reader)
    except ValueError:
        return
    for is_mark, group in itertools.groupby(words, lambda word: set(word) <= set("|;&")):
        if not is_mark:
            yield list(group)


@cache
def options(command: str) -> set[str]:
    """Return the options that a command takes."""
    from mull.cli.commands import build_group

    group = build_group()
    with group.make_context("llm", ["version"]) as context:
        found = group.get_command(context, command)
        assert found is not None, f"there is no command llm {command}"
        return {name for one in found.get_params(context) for name in (*one.opts, *one.secondary_opts)}


@cache
def defined() -> tuple[dict[str, set[str]], set[str]]:
    """Return the members of every class of ours, inherited ones included, and every function's name."""
    members: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    functions: set[str] = set()
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] in SKIPPED:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                functions.add(node.name)
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                members.setdefault(node.name, set()).update(_members(node))
    for name in members:
        queue = list(bases[name])
        while queue:
            base = queue.pop()
            members[name] |= members.get(base, set())
            queue += bases.get(base, [])
    return members, functions


def _members(node: ast.ClassDef) -> set[str]:
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            found.add(inner.name)
        elif isinstance(inner, ast.AnnAssign | ast.Assign):
            targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
            found |= {t.id for t in targets if isinstance(t, ast.Name)}
            found |= {t.attr for t in targets if isinstance(t, ast.Attribute)}
    return found


def anchors(page: Path) -> set[str]:
    """Return the names by which links reach a page's headings."""
    titles = HEADING.findall(FENCE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_reference_of_the_command_line_is_current():
    written = runpy.run_path(str(ROOT / "docs" / "write_cli.py"))["render"]()
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == written, "run: python docs/write_cli.py"


@EACH_PAGE
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        assert ROOT in (there, *there.parents), f"{page.name} links out of the repository: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}, which is no heading"


@EACH_PAGE
def test_commands_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in (words for text in spoken(page) for words in commands(text)):
        if words[0] == "make":
            for word in words[1:]:
                assert word in targets or "=" in word, f"{page.name}: make knows no {word}"
        if words[0] == "llm" and words[1:] not in ([], ["--help"]):
            known = options(words[1])
            given = [word for word in words[2:] if re.fullmatch(r"--?[a-z][a-z-]*", word)]
            assert set(given) <= known, f"{page.name}: {' '.join(words)}"


@EACH_PAGE
def test_options_in_the_prose_exist(page):
    from mull.cli.commands import COMMANDS

    known = {"--help", "--version"}.union(*(options(command) for command in COMMANDS))
    for text in INLINE.findall(prose(page)):
        for name in re.findall(r"(?<!\S)--[a-z][a-z-]+", text) if text.startswith("--") else ():
            assert name in known, f"{page.name} speaks of {name}"


@EACH_PAGE
def test_paths_exist(page):
    for text in INLINE.findall(prose(page)):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(\.(py|md|toml|txt)|/)|[a-z]+(/[\w-]+)+", text):
            found = (ROOT / text).exists() or (ROOT.parent / text == ROOT.parent / "shared/")
            assert found or not _is_ours(text), f"{page.name} speaks of {text}"


def _is_ours(path: str) -> bool:
    first = path.split("/")[0]
    return path.endswith((".py", ".md")) or (ROOT / first).is_dir() or path == "constraints.txt"


@EACH_PAGE
def test_names_exist(page):
    members, functions = defined()
    for text in INLINE.findall(prose(page)):
        if dotted := re.fullmatch(r"([A-Z]\w+)\.(\w+)", text):
            known = dotted[2] in members.get(dotted[1], ()) or (ROOT / text).exists()
            assert known, f"{page.name} speaks of {text}"
        elif called := re.fullmatch(r"(\w+)\(\)", text):
            assert called[1] in functions | {"input"}, f"{page.name} speaks of {text}"
        elif re.fullmatch(r"([A-Z][a-z0-9]+){2,}", text):
            assert text in members, f"{page.name} speaks of {text}"


@EACH_PAGE
def test_quoted_code_is_the_files(page):
    for code in blocks(page, "python"):
        ast.parse(code if not code.startswith("# ") else "")
        first, _, rest = code.partition("\n")
        if path := re.fullmatch(r"# ([\w/]+\.py)", first):
            assert rest in (ROOT / path[1]).read_text("utf-8"), (
                f"{page.name} quotes {path[1]} as it is no more"
            )


def test_the_tree_names_what_is_there():
    (tree,) = [code for code in blocks(ROOT / "docs" / "architecture.md", "text") if "├──" in code]
    folder = ROOT
    for line in tree.splitlines():
        if line and line[0] not in "├└":
            folder = ROOT
        for name in re.findall(r"(?<![\w/.])[a-z_]+(?:\.py|/)", line.split("  ")[0] + " "):
            assert (folder / name).exists(), f"the tree shows {name} in {folder.name}"
            if name.endswith("/") and line[0] not in "├└":
                folder = ROOT / name


def test_the_readme_lists_every_architecture():
    from mull.models.load import architectures

    rows = [line.split("|") for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "|" in line]
    listed = [[set(INLINE.findall(cell)) for cell in row[2:4]] for row in rows if len(row) == 5]
    types, names = (set().union(*(row[i] for row in listed)) for i in (0, 1))
    assert set(architectures("safetensors")) <= types
    assert set(architectures("gguf")) <= names


def test_every_dependency_is_pinned_and_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(r for group in project["optional-dependencies"].values() for r in group),
    ]
    pinned = re.findall(r"^([a-z0-9-]+)==[\w.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    explained = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    for requirement in wanted:
        name = re.split(r"[<>=\[]", requirement)[0].strip()
        assert name in pinned, f"constraints.txt does not pin {name}"
        assert re.search(rf"^\|[^|]*\b{name}\b", explained, re.MULTILINE), (
            f"docs/dependencies.md leaves out {name}"
        )
