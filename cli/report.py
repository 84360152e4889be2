"""What is printed beside a reply: notes, the JSON object, how its thinking went, options and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..settings import load_settings
from .options import LoadFlags, OutputFlags
from .statistics import Reply, sources, statistics, thinking_line, to_json
from .terminal import Terminal, for_screen
from .think_log import ThinkLog, too_small
from .think_options import ThinkFlags
from .vote import Vote

if TYPE_CHECKING:
    from ..llm import LLM


class Report:
    """Prints what was asked for beside a reply: the JSON object; the options, once; the statistics."""

    def __init__(
        self,
        llm: LLM,
        terminal: Terminal,
        given: dict[str, object],
        loading: LoadFlags,
        output: OutputFlags,
        thinking: ThinkFlags,
    ) -> None:
        self._llm = llm
        self._terminal = terminal
        self._given = given
        self._loading = loading
        self._output = output
        self._flags = thinking
        self._has_told_options = False

    def __call__(self, reply: Reply) -> None:
        """Print what belongs to one reply that was shown as it came."""
        self._tell_limits(reply)
        if self._output.as_json:
            self._print_json(to_json(self._llm.name, reply, self._text_of))
        self._tell_figures(reply)

    def several(self, replies: Sequence[Reply], vote: Vote | None) -> None:
        """Print replies that were not shown: all of them, or the first that the vote is for."""
        for reply in replies:
            self._tell_limits(reply)
        if self._output.as_json:
            choices = [to_json(self._llm.name, reply, self._text_of) for reply in replies]
            outcome = None if vote is None else asdict(vote)
            self._print_json({"model": self._llm.name, "choices": choices, "vote": outcome})
            return
        shown = replies if vote is None else [replies[vote.index]]
        for number, reply in enumerate(shown):
            print(
                ("\n" if number else "") + for_screen(reply.text.strip("\n")),
                file=self._terminal.out,
                flush=True,
            )
            self._tell_figures(reply)
        if vote is not None:
            print(vote, file=self._terminal.err)

    def _text_of(self, token: int) -> str:
        return self._llm.tokenizer.token_bytes(token).decode("utf-8", "replace")

    def _print_json(self, found: dict[str, object]) -> None:
        import json

        print(json.dumps(found, ensure_ascii=False), file=self._terminal.out, flush=True)

    def _tell_limits(self, reply: Reply) -> None:
        """Say that the context is full, and what limited the thought."""
        usage = reply.done.usage
        used = usage.prompt_tokens + usage.completion_tokens
        if reply.done.reason == "length" and used >= self._llm.context_length and not self._output.quiet:
            full = f"the context of {self._llm.context_length} tokens is full, and the reply ends here"
            print(f"note: {full} (--num-ctx)", file=self._terminal.err)
        if reply.done.conformity in ("incomplete", "invalid") and not self._output.quiet:
            cut = "ends before its format is complete (--num-predict)"
            what = cut if reply.done.conformity == "incomplete" else "does not have the format asked for"
            print(f"note: the answer {what}", file=self._terminal.err)
        if reply.done.reason == "repeat" and not self._output.quiet:
            print("note: the answer went in circles, and ends here (--repeat-stop)", file=self._terminal.err)
        self._tell_thinking(reply)

    def _tell_figures(self, reply: Reply) -> None:
        """Print how the budget was used, the options, once, and the statistics: what of it is wanted."""
        if self._flags.think_stats or self._output.verbose:
            line = thinking_line(reply)
            if line:
                print(line, file=self._terminal.err)
        if not self._output.verbose:
            return
        lines = []
        if not self._has_told_options:
            lines = sources(self._llm, self._given, self._loading.num_ctx, reply.done.seed)
        self._has_told_options = True
        for line in ["", *lines, *([""] if lines else []), *statistics(reply)]:
            print(line, file=self._terminal.err)

    def _tell_thinking(self, reply: Reply) -> None:
        """Pass on what limited the thought, warn of a budget that is too small, and count the thought."""
        notes = list(reply.done.thinking.notes)
        report = reply.done.thinking.report
        if report is not None and report.reason is not None:
            log = ThinkLog(load_settings().state_dir)
            if report.requested and self._flags.given():
                warning = too_small(report.requested, log.thoughts(self._llm.name))
                notes += [warning] if warning else []
            if not self._flags.no_log:
                log.add(self._llm.name, report)
        if not self._output.quiet:
            for note in notes:
                print(f"note: {note}", file=self._terminal.err)
