"""Where messages are typed: history, completion, keys, several lines, and the status bar below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, ThreadedCompleter
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Style

from .input_history import InputHistory
from .screen import Look, ascii_only, window_size
from .status import status_text

_PLACEHOLDERS = ("Send a message (/? for help)", "/? for help", "")
_ROOM = 6  # columns beside the placeholder: the prompt, and the cursor


class Prompt:
    """Reads messages from a terminal.

    history_file: where what was typed is kept, None for nowhere; status: the parts of the status bar, the most
    important first. stdin, stdout: other ends than this process's terminal.
    """

    def __init__(
        self,
        look: Look,
        history_file: Path | None,
        completer: Completer,
        bindings: KeyBindings,
        status: Callable[[], list[str]],
        *,
        stdin: Input | None = None,
        stdout: Output | None = None,
    ) -> None:
        self._look, self._status = look, status
        self.history = InputHistory(history_file) if history_file is not None else InMemoryHistory()
        self._session: PromptSession[str] = PromptSession(
            ">>> ",
            multiline=True,
            prompt_continuation="... ",
            history=self.history,
            completer=ThreadedCompleter(completer),
            complete_while_typing=Condition(self._is_command),
            key_bindings=bindings,
            bottom_toolbar=self._toolbar,
            placeholder=self._placeholder,
            color_depth=None if look.color else ColorDepth.MONOCHROME,
            style=Style.from_dict({"bottom-toolbar": "noreverse dim", "placeholder": "dim"}),
            reserve_space_for_menu=5,
            input=stdin,
            output=stdout,
        )

    @property
    def vi(self) -> bool:
        """Whether the keys are Vi's rather than Emacs'."""
        return self._session.editing_mode == EditingMode.VI

    @vi.setter
    def vi(self, wanted: bool) -> None:
        self._session.editing_mode = EditingMode.VI if wanted else EditingMode.EMACS

    @property
    def remembers(self) -> bool:
        """Whether what is typed is kept."""
        return isinstance(self.history, InputHistory) and self.history.enabled

    @remembers.setter
    def remembers(self, wanted: bool) -> None:
        if isinstance(self.history, InputHistory):
            self.history.enabled = wanted

    @property
    def text(self) -> str:
        """What stands in the prompt, or stood there when it was left."""
        return self._session.default_buffer.text

    def read(self, default: str = "") -> str:
        """Read a message; raises EOFError and KeyboardInterrupt as input() does."""
        return self._session.prompt(default=default)

    def _is_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/")

    def _toolbar(self) -> FormattedText:
        text = status_text(self._status(), window_size()[0] - 1)
        return FormattedText([("", text if self._look.unicode else ascii_only(text))])

    def _placeholder(self) -> FormattedText:
        room = window_size()[0] - _ROOM
        text = next(text for text in _PLACEHOLDERS if len(text) <= room or not text)
        return FormattedText([("class:placeholder", text)])
