"""Markdown for a terminal, and how much of a text that is still growing is settled."""

from __future__ import annotations

from functools import cache
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import (
    BlockQuote,
    CodeBlock,
    Heading,
    HorizontalRule,
    ListElement,
    ListItem,
    Markdown,
    TableElement,
)
from rich.segment import Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.theme import Theme

from .plain import settled_by_length
from .screen import Line

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_LONG_LINES = 40  # from when on a single block is settled piece by piece
_THEME = Theme(
    {
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.h1": "bold underline",
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.h4": "bold",
        "markdown.hr": "dim",
        "markdown.block_quote": "italic",
        "markdown.item.bullet": "bold",
        "markdown.item.number": "bold",
        "markdown.link": "underline",
        "markdown.link_url": "dim",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
    }
)


@cache
def _parser() -> MarkdownIt:
    """Return a parser that leaves nothing out: HTML and definitions of links are text like any other."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("reference")


@cache
def _console() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=80, theme=_THEME, legacy_windows=False)


def render_markdown(text: str, width: int) -> list[Line]:
    """Lay a text out in lines; only code may be wider than `width`."""
    console = _console()
    options = console.options.update(width=max(width, 4), max_width=max(width, 4))
    lines = [_without_end(line) for line in _lines(console, _Document(text), options)]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def settled(text: str) -> tuple[str, str, bool]:
    """Divide a growing text: blocks that nothing can change any more, and the rest.

    The third value tells whether the rest goes on with the block that was divided. A block ends only where another
    has begun, so a single line that is not whole yet is never settled.
    """
    end = text.rfind("\n") + 1
    if not end:
        return settled_by_length(text)
    blocks = [token for token in _parser().parse(text[:end]) if token.level == 0 and token.map]
    if not blocks:
        return "", text, False
    lines = text[:end].splitlines(keepends=True)
    last = blocks[-1]
    for token in reversed(blocks):  # a block's opening token has its lines, and its closing one may have too
        if token.map and last.map and token.map[0] == last.map[0]:
            last = token
    start = last.map[0] if last.map else 0
    before = "".join(lines[:start])
    if before.strip():
        return before, text[len(before) :], False
    if len(lines) - start > _LONG_LINES:
        return _by_lines(text, lines, last)
    return settled_by_length(text)


def _by_lines(text: str, lines: list[str], block: Token) -> tuple[str, str, bool]:
    """Divide a long block where it can be."""
    if block.type == "fence" and block.map:
        opening = lines[block.map[0]]
        at = len("".join(lines[: block.map[0] + 1]))
        kept = lines[block.map[0] + 1 :]
        if len(kept) <= _LONG_LINES or _closes(kept[-1], block.markup):
            return "", text, False
        done = "".join(kept[:_LONG_LINES])
        return f"{opening}{done}{block.markup}\n", opening + text[at + len(done) :], True
    if block.type in ("bullet_list_open", "ordered_list_open"):
        whole = "".join(lines)
        items = [
            token for token in _parser().parse(whole) if token.type == "list_item_open" and token.level == 1
        ]
        start = items[-1].map[0] if items and items[-1].map else 0
        if start:
            before = "".join(lines[:start])
            return before, text[len(before) :], True
    return settled_by_length(text)


def _closes(line: str, markup: str) -> bool:
    return line.strip().startswith(markup)


def code_blocks(text: str) -> list[str]:
    """Return the code of a text's blocks, wherever they are nested."""
    return [token.content for token in _parser().parse(text) if token.type in ("fence", "code_block")]


def _lines(console: Console, what: object, options: ConsoleOptions) -> list[Line]:
    """Render without cutting off what is too wide."""
    rendered = console.render(what, options)  # type: ignore[arg-type]  # our elements are renderable
    return [list(line) for line in Segment.split_lines(Segment.apply_style(rendered, None))]


def _without_end(line: Line) -> Line:
    """Drop the spaces that fill a line up."""
    kept = [segment for segment in line if not segment.control]
    while kept:
        text, style, _ = kept[-1]
        if text.rstrip(" "):
            kept[-1] = Segment(text.rstrip(" "), style)
            break
        kept.pop()
    return kept


class _Code(CodeBlock):
    """Code and nothing around it, in lines as long as they are."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip("\n")
        syntax = Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", tab_size=8)
        text = syntax.highlight(code)
        text.rstrip()
        for line in text.split("\n", allow_blank=True):
            yield from line.render(console)
            yield Segment.line()


class _Heading(Heading):
    """A heading at the left."""

    LEVEL_ALIGN = {}


class _Rule(HorizontalRule):
    """A line that is not too long."""

    new_line = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment("─" * min(options.max_width, 40), console.get_style("markdown.hr"))
        yield Segment.line()


class _Item(ListItem):
    """An item of a list, its code in full."""

    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Write the item behind a dot."""
        yield from self._beside(" • ", "markdown.item.bullet", console, options)

    def render_number(
        self, console: Console, options: ConsoleOptions, number: int, last_number: int
    ) -> RenderResult:
        """Write the item behind its number."""
        width = len(str(last_number)) + 2
        numeral = f"{number}.".rjust(width) + " "
        yield from self._beside(numeral, "markdown.item.number", console, options)

    def _beside(self, mark: str, style: str, console: Console, options: ConsoleOptions) -> RenderResult:
        inner = options.update(width=max(options.max_width - len(mark), 4))
        lines = _lines(console, self.elements, inner) or [[]]
        for number, line in enumerate(lines):
            yield Segment(mark if number == 0 else " " * len(mark), console.get_style(style))
            yield from line
            yield Segment.line()


class _Quote(BlockQuote):
    """A quotation behind a bar, its code in full."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        inner = options.update(width=max(options.max_width - 2, 4))
        for line in _lines(console, self.elements, inner):
            yield Segment("▌ ", console.get_style("markdown.hr"))
            yield from Segment.apply_style(line, self.style)
            yield Segment.line()


class _Table(TableElement):
    """A table that breaks long words rather than to cut them off."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich import box

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, border_style="dim")
        cells = self.header.row.cells if self.header and self.header.row else []
        for cell in cells:
            heading = cell.content.copy()
            heading.stylize("markdown.table.header")
            table.add_column(heading, overflow="fold", justify=cell.justify)
        for row in self.body.rows if self.body else []:
            table.add_row(*(cell.content for cell in row.cells))
        yield table


class _Document(Markdown):
    """A text whose lines stay lines, as those who write it for terminals mean them."""

    elements = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
        "hr": _Rule,
        "list_item_open": _Item,
        "bullet_list_open": ListElement,
        "ordered_list_open": ListElement,
        "blockquote_open": _Quote,
        "table_open": _Table,
    }

    def __init__(self, markup: str) -> None:
        super().__init__("", hyperlinks=False)
        self.markup = markup
        self.parsed = _parser().parse(markup)
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"
                elif child.type == "image":
                    child.type, child.tag, child.children = "text", "", None
                    child.content = f"[{child.content}] ({child.attrs.get('src', '')})"
