"""`llm run`: ask a model once, or chat with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidRequest
from .opening import open_llm
from .options import LoadFlags, Model, OutputFlags, ReplyFlags, SamplingFlags, with_groups
from .terminal import Terminal, is_tty

if TYPE_CHECKING:
    from ..llm import LLM
    from .conversation import Conversation
    from .statistics import Reply


@with_groups
def command(
    model: Model,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]", help="What to ask; what is piped in comes before it."),
    ] = None,
    *,
    reply: ReplyFlags,
    sampling: SamplingFlags,
    loading: LoadFlags,
    output: OutputFlags,
) -> None:
    """Ask a model, or without a prompt chat with it.

    The answer goes to stdout; thoughts, progress and statistics go to stderr.

    \b
    Examples:
      llm run pocket "What is 347 + 685?"
      llm run ./qwen3-8b.gguf --think off --temperature 0 "Name three rivers."
      cat report.txt | llm run qwen3 --num-ctx 32K "Summarise this."
      llm run pocket --json -n 200 "What is 2 + 2?" | jq .token_ids
      llm run qwen3 --raw "Once upon a time"
      llm run qwen3
    """
    from ..settings import load_settings
    from .conversation import Conversation, Manner
    from .inputs import read_argument

    loading.check()
    options = sampling.given()
    if reply.raw and reply.system is not None:
        raise InvalidRequest("--raw uses no template, so --system has no place", field="system")
    text = read_prompt(prompt, raw=reply.raw)
    terminal = Terminal.detect(color=load_settings().color)
    if text is None:
        _check_can_chat(reply, output, terminal)
    manner = Manner(
        system=None if reply.system is None else read_argument(reply.system),
        think=reply.think,
        options=options,
        hide_thinking=reply.hide_thinking,
        quiet=output.quiet,
        silent=output.as_json,
    )
    with open_llm(model, loading, terminal, num_ctx=loading.num_ctx, quiet=output.quiet) as llm:
        if not output.quiet:
            for note in llm.notes:
                print(f"note: {note}", file=terminal.err)
        report = _Report(llm, terminal, options, loading, output)
        conversation = Conversation(llm, terminal, manner)
        if text is None:
            from .chat_lines import chat

            chat(conversation, terminal, quiet=output.quiet, after=report)
        else:
            report(_once(conversation, text, raw=reply.raw))


def read_prompt(words: list[str] | None, *, raw: bool) -> str | None:
    """Return what was piped in followed by the words of the command line; None if there is neither.

    Raises InvalidRequest where a prompt is needed and absent: only a terminal can be asked for one.
    """
    from .inputs import read_argument, read_stdin

    typed = read_argument(" ".join(words)) if words else None
    if is_tty(sys.stdin):
        if typed is None:
            return None
        text = typed
    else:
        piped = read_stdin()
        if typed is None:
            # The last line's end belongs to the line, not to the question.
            text = piped if raw else piped.removesuffix("\n")
        else:
            text = piped + ("\n" if piped and not piped.endswith("\n") else "") + typed
    if not text.strip() and not (raw and text):
        raise InvalidRequest("no prompt", field="prompt", hint='llm run MODEL "your question"')
    return text


class _Report:
    """Prints what was asked for beside a reply: the JSON object; the options, once; the statistics."""

    def __init__(
        self,
        llm: LLM,
        terminal: Terminal,
        given: dict[str, object],
        loading: LoadFlags,
        output: OutputFlags,
    ) -> None:
        self._llm = llm
        self._terminal = terminal
        self._given = given
        self._loading = loading
        self._output = output
        self._has_told_options = False

    def __call__(self, reply: Reply) -> None:
        """Print what belongs to one reply."""
        from .statistics import sources, statistics, to_json

        usage = reply.done.usage
        used = usage.prompt_tokens + usage.completion_tokens
        if reply.done.reason == "length" and used >= self._llm.context_length and not self._output.quiet:
            full = f"the context of {self._llm.context_length} tokens is full, and the reply ends here"
            print(f"note: {full} (--num-ctx)", file=self._terminal.err)
        if self._output.as_json:
            import json

            print(json.dumps(to_json(self._llm.name, reply), ensure_ascii=False), flush=True)
        if not self._output.verbose:
            return
        lines = (
            []
            if self._has_told_options
            else sources(self._llm, self._given, self._loading.num_ctx, reply.done.seed)
        )
        self._has_told_options = True
        for line in ["", *lines, *([""] if lines else []), *statistics(reply)]:
            print(line, file=self._terminal.err)


def _once(conversation: Conversation, text: str, *, raw: bool) -> Reply:
    return conversation.ask_raw(text) if raw else conversation.ask(text)


def _check_can_chat(reply: ReplyFlags, output: OutputFlags, terminal: Terminal) -> None:
    """Raise InvalidRequest if there is neither a prompt nor a way to type one."""
    reason = "--json" if output.as_json else "--raw" if reply.raw else ""
    if reason or not terminal.out_is_tty:
        raise InvalidRequest(
            f"{reason} needs a prompt" if reason else "no prompt",
            field="prompt",
            hint='llm run MODEL "your question"',
        )
