"""Modelfiles: the text that says what a model is made of, read and written with Ollama's syntax."""

from __future__ import annotations

import bisect
import codecs
import re
from dataclasses import dataclass, field

from ..errors import InvalidRequest, ModelfileError
from .manifest import Contents
from .parameters import DEPRECATED, ParameterValue, parse_parameter

COMMANDS = (
    "from", "license", "template", "system", "adapter", "draft",
    "renderer", "parser", "parameter", "message", "requires",
)  # fmt: skip
ROLES = ("system", "user", "assistant")
_INVALID_COMMAND = (
    "command must be one of " + ", ".join(f'"{name}"' for name in COMMANDS[:-1]) + f', or "{COMMANDS[-1]}"'
)
_INVALID_ROLE = 'message role must be one of "system", "user", or "assistant"'
_UNCLOSED = "unexpected EOF"
_NUMBER = r"(?:0|[1-9][0-9]*)"
_BEFORE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
# A version may be shortened, but only a whole one can be a pre-release or a build.
_VERSION = re.compile(
    rf"v?{_NUMBER}(\.{_NUMBER}(\.{_NUMBER}(-{_BEFORE}(\.{_BEFORE})*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?"
)
_NEWLINE = re.compile(r"\r\n|\r|\n")
# The letters of the word before the value, and what that word is.
_TWO_WORDS = {"parameter": ("[A-Za-z0-9_]", "a name"), "message": ("[A-Za-z]", "a role")}


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction: lower-case name, and its value, which PARAMETER and MESSAGE precede with a word."""

    name: str
    args: tuple[str, ...]
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)

    @property
    def value(self) -> str:
        """The last argument."""
        return self.args[-1]

    def error(self, message: str, hint: str | None = None) -> ModelfileError:
        """Return an error that points at this command."""
        return ModelfileError(message, line=self.line or None, column=self.column or None, hint=hint)


@dataclass(frozen=True, slots=True)
class Modelfile:
    """The instructions of a Modelfile, in order."""

    commands: tuple[Command, ...]

    @classmethod
    def parse(cls, source: str | bytes) -> Modelfile:
        """Read and check a Modelfile; raise ModelfileError with line and column."""
        text = source if isinstance(source, str) else _decode(source)
        commands = tuple(_Reader(text).commands())
        if not any(command.name == "from" for command in commands):
            raise ModelfileError("no FROM line", hint="FROM takes a model's name, a .gguf file or a folder")
        for command in commands:
            check_command(command)
        return cls(commands)

    @classmethod
    def from_contents(cls, contents: Contents, source: str) -> Modelfile:
        """Write down a stored model, whose weights are at `source`."""
        pairs: list[tuple[str, ...]] = [("from", source)]
        pairs += [("from", str(path)) for path in contents.projectors]
        pairs += [("adapter", str(path)) for path in contents.adapters]
        pairs += [("draft", str(path)) for path in contents.drafts]
        for name in ("renderer", "parser", "requires"):
            if value := getattr(contents.config, name):
                pairs.append((name, value))
        if contents.template is not None:
            pairs.append(("template", contents.template))
        if contents.system is not None:
            pairs.append(("system", contents.system))
        for name, value in sorted(contents.parameters.items()):
            items = value if isinstance(value, list) else [value]
            pairs += [("parameter", name, _written(item)) for item in items]
        pairs += [("message", role, content) for role, content in contents.messages]
        pairs += [("license", text) for text in contents.licenses]
        return cls(tuple(Command(name, tuple(args)) for name, *args in pairs))

    def all(self, name: str) -> tuple[Command, ...]:
        """Return the commands of this name, in order."""
        return tuple(command for command in self.commands if command.name == name)

    def last(self, name: str) -> Command | None:
        """Return the command of this name that counts."""
        return next((command for command in reversed(self.commands) if command.name == name), None)

    def parameters(self) -> dict[str, ParameterValue]:
        """Return the parameters' values: the last of each name, all of the lists."""
        out: dict[str, ParameterValue] = {}
        for command in self.all("parameter"):
            name, text = command.args
            if name in DEPRECATED:
                continue
            value, before = parse_parameter(name, text), out.get(name)
            out[name] = before + value if isinstance(before, list) and isinstance(value, list) else value
        return out

    def messages(self) -> tuple[tuple[str, str], ...]:
        """Return (role, content) of every MESSAGE."""
        return tuple((command.args[0], command.value) for command in self.all("message"))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was accepted and has no effect, one line each."""
        names = dict.fromkeys(command.args[0] for command in self.all("parameter"))
        out = [f"parameter {name} is deprecated" for name in names if name in DEPRECATED]
        ignored = (name for name in ("renderer", "parser") if self.last(name) is not None)
        out += [f"{name.upper()} is kept and has no effect" for name in ignored]
        return tuple(out)

    def render(self) -> str:
        """Write the Modelfile so that parsing it gives the same commands."""
        return "".join(
            " ".join([command.name.upper(), *command.args[:-1], _quoted(command.value)]) + "\n"
            for command in self.commands
        )


# A value ends at the end of its line, unless it begins with a quote: then at the first end of a line
# that closes the quote. Quotes inside a line are part of the value, and so is "#".
class _Reader:
    """Cuts a text into commands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [0, *(found.end() for found in _NEWLINE.finditer(text))]

    def commands(self) -> list[Command]:
        """Read to the end."""
        out = []
        while self._skip_to_command():
            start = self.at
            word = self._word(r"[A-Za-z]*")
            name = word.lower()
            if self.at == len(self.text):
                raise self._error(_UNCLOSED, start, _command_hint(word))
            if name not in COMMANDS or not self._blank():
                raise self._error(_INVALID_COMMAND, start, _command_hint(word))
            args = [self._first(name, start)] if name in _TWO_WORDS else []
            args.append(self._value(start))
            line, column = self._position(start)
            out.append(Command(name, tuple(args), line, column))
        return out

    def _first(self, name: str, start: int) -> str:
        """Read the word that comes before the value."""
        letters, what = _TWO_WORDS[name]
        first = self._word(rf"[ \t]*{letters}*").lstrip()
        if not self._blank():
            reason = _UNCLOSED if self.at == len(self.text) else f"{_UNCLOSED}: {first}"
            raise self._error(reason, start, f"{name.upper()} needs {what} and a value")
        if name == "message" and first not in ROLES:
            raise self._error(_INVALID_ROLE, start, None)
        return first

    def _skip_to_command(self) -> bool:
        found = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*").match(self.text, self.at)
        self.at = found.end() if found else self.at
        # What cannot be seen, such as a no-break space that a web page left, hides no command.
        if self.at < len(self.text) and not self.text[self.at].isprintable():
            self.at += 1
        return self.at < len(self.text)

    def _word(self, pattern: str) -> str:
        found = re.compile(pattern).match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return found.group()

    def _blank(self) -> bool:
        """Step over the one blank that ends a word."""
        if self.text[self.at : self.at + 1] not in (" ", "\t"):
            return False
        self.at += 1
        return True

    def _value(self, start: int) -> str:
        self._word(r"[^\S\r\n]*")
        begin = self.at
        quote = next((q for q in ('"""', '"') if self.text.startswith(q, begin)), "")
        end = begin
        while True:
            newline = _NEWLINE.search(self.text, end)
            end = newline.start() if newline else len(self.text)
            last = end
            while last > begin and self.text[last - 1].isspace():
                last -= 1
            if last - begin >= 2 * len(quote) and self.text.endswith(quote, begin, last):
                self.at = end
                return self.text[begin + len(quote) : last - len(quote)]
            if newline is None:
                raise self._error(_UNCLOSED, start, f"the value begins with {quote} and is never closed")
            end = newline.end()

    def _position(self, at: int) -> tuple[int, int]:
        line = bisect.bisect_right(self.starts, at)
        return line, at - self.starts[line - 1] + 1

    def _error(self, message: str, at: int, hint: str | None) -> ModelfileError:
        line, column = self._position(at)
        return ModelfileError(message, line=line, column=column, hint=hint)


def check_command(command: Command) -> None:
    """Raise ModelfileError when a command's arguments make no sense."""
    if command.name == "message" and command.args[0] not in ROLES:
        raise command.error(_INVALID_ROLE)
    if command.name == "requires" and not _VERSION.fullmatch(command.value):
        raise command.error("requires must be a valid semver (e.g. 0.14.0)")
    if command.name in ("from", "adapter", "draft") and not command.value:
        raise command.error(f"{command.name.upper()} needs a value")
    if command.name == "parameter" and command.args[0] not in DEPRECATED:
        try:
            parse_parameter(*command.args)
        except InvalidRequest as error:
            raise command.error(error.message, error.hint) from error


def _command_hint(word: str) -> str | None:
    import difflib

    if word.lower() in COMMANDS:
        return f"{word.upper()} needs a value"
    near = difflib.get_close_matches(word.lower(), COMMANDS, n=1)
    return f"did you mean {near[0].upper()}?" if near else None


def _decode(data: bytes) -> str:
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = _NEWLINE.split(data[: error.start].decode(encoding, "replace"))
        raise ModelfileError(
            f"the Modelfile is not {'UTF-16' if encoding == 'utf-16' else 'UTF-8'} text",
            line=len(before),
            column=len(before[-1]) + 1,
        ) from error


def _written(value: object) -> str:
    """Write a parameter's value as PARAMETER takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(value: str) -> str:
    """Write a value so that it reads back as itself.

    The syntax has no escapes: a text with a line that ends in three quotes cannot be written at all
    (and cannot be read either); it comes out in three quotes all the same.
    """
    forms = [*([value] if value else []), f'"{value}"', f'"""{value}"""']
    for form in reversed(forms) if "\n" in value else forms:
        reader = _Reader(form)
        try:
            if reader._value(0) == value and reader.at == len(form):
                return form
        except ModelfileError:
            continue
    return f'"""{value}"""'
