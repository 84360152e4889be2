"""From a request to the tokens a model continues; a user's text never passes for the template's markers."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from ..errors import InvalidRequest, NotSupported
from .families.family import Family
from .message import Message, ToolCall
from .messages import MessageParser
from .request import ChatRequest
from .stream import ReplyParser, StreamParser
from .template import Template
from .templates import another_template
from .thinking import ThinkOptions
from .tool_calls.json_calls import PLAIN_JSON
from .tool_calls.syntax import Syntax
from .tools import checked, fitted


class TokenizerLike(Protocol):
    """What a session needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def add_bos(self) -> bool: ...

    def encode(self, text: str, *, special: bool = True, parse_special: bool = False) -> list[int]: ...

    def token_text(self, token_id: int) -> str: ...

    def is_special(self, token_id: int) -> bool: ...


_AS_IT_IS = ThinkOptions()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is to continue: its tokens, its text, and whether the reply begins within a thought."""

    ids: tuple[int, ...]
    text: str
    opened: bool


class Session:
    """The conversation side of one loaded model; `template` is None for a base model."""

    def __init__(self, template: Template | None, family: Family, tokenizer: TokenizerLike) -> None:
        self.template = template
        self.family = family
        self.tokenizer = tokenizer
        self._given: Template | None = None  # the last that a request brought

    def prompt(self, request: ChatRequest, thinking: ThinkOptions = _AS_IT_IS) -> Prompt:
        """Write and tokenize the prompt of a request; raises TemplateError, NotSupported, InvalidRequest.

        Without a template the messages' texts follow one another, and the model continues them.
        """
        if request.raw is not None:
            ids = self._encode(request.raw, parse_special=True)
            # What goes on from given tokens begins as they do.
            if request.context:
                opened = self.family.template_opens(request.raw)
                return Prompt((*request.context, *ids), request.raw, opened)
            return self._finish(request.raw, ids)
        template = self._template(request.template)
        if template is None:
            if request.tools:
                raise NotSupported("a model without a chat template takes no tools", field="tools")
            text = "\n".join(message.content for message in request.messages)
            return self._finish(text, self._encode(text, parse_special=False))
        prompt = self._chat(template, request, thinking)
        if not request.context:
            return prompt
        begins = self.tokenizer.add_bos and prompt.ids[:1] == (self.tokenizer.bos_id,)
        return replace(prompt, ids=(*request.context, *prompt.ids[begins:]))

    def _template(self, source: str | None) -> Template | None:
        """Return the model's template, or the one that a request brings; raises TemplateError."""
        if source is None:
            return self.template
        given = self._given
        if given is None or given.source != source:
            given = self._given = another_template(self.template, source)
        return given

    def parser(self, prompt: Prompt, request: ChatRequest) -> ReplyParser:
        """Return the parser for the reply to `prompt`."""
        tools = checked(request).tools or None
        if self.family.header_begins:
            return MessageParser(self.family, opened=prompt.opened, tools=tools)
        family = replace(self.family, tools=self.syntax)
        opens = self.syntax.opens if self.syntax.in_prompt else ()
        in_call = next((text for text in opens if prompt.text.endswith(text)), None)
        return StreamParser(
            family, opened=prompt.opened, tools=() if in_call and tools is None else tools, in_call=in_call
        )

    @property
    def syntax(self) -> Syntax:
        """How this model is to write calls of tools."""
        return self.family.tools or PLAIN_JSON

    def spell(self, text: str) -> list[str | int]:
        """Return a text as runs of letters, and the ids of the tags in it that are one token each."""
        parts = self._spelled.split(text) if self._spelled is not None else [text]
        return [self._tag_ids.get(part, part) for part in parts if part]

    @cached_property
    def _tag_ids(self) -> dict[str, int]:
        """Every text that is one token and no ordinary text: control tokens, and the family's tags."""
        family = self.family
        ids = dict(self._control_ids)
        for tag in (*family.calls, *self.syntax.opens, family.tool_close or ""):
            split = self._encode(tag, parse_special=True)
            if len(split) == 1:
                ids[tag] = split[0]
        return ids

    @cached_property
    def _spelled(self) -> re.Pattern[str] | None:
        texts = sorted(self._tag_ids, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, texts))})") if texts else None

    def _chat(self, template: Template, request: ChatRequest, thinking: ThinkOptions) -> Prompt:
        history = thinking.history
        if history == "auto":
            history = "strip" if self.family.strip_history else "keep"
        mask = _Mask(self._control, self._own_tags)
        messages, tools = fitted(
            [mask.message(message) for message in strip_history(request.messages, history)],
            [mask.tool(tool) for tool in checked(request).tools],
            template,
            self.family.tools,
        )
        text = template.render(
            messages,
            tools,
            thinking.mode,
            extra=self.family.switch.variables(thinking.mode, thinking.level, thinking.tokens),
        )
        if thinking.mode == "off":
            text = self._close_thought(text, tools=bool(tools))
        if not mask.texts:
            return self._finish(text, self._encode(text, parse_special=True))
        return self._finish(mask.restore(text), self._encode_masked(text, mask))

    def _finish(self, text: str, ids: list[int]) -> Prompt:
        bos_id = self.tokenizer.bos_id
        if self.tokenizer.add_bos and bos_id is not None and ids[:1] != [bos_id]:
            ids = [bos_id, *ids]
        return Prompt(tuple(ids), text, self.family.template_opens(text))

    def _encode(self, text: str, *, parse_special: bool) -> list[int]:
        # special=False: a prompt that is to be continued must not end as the vocabulary ends a text.
        return self.tokenizer.encode(text, special=False, parse_special=parse_special) if text else []

    def _close_thought(self, text: str, *, tools: bool) -> str:
        """Leave an empty thought where the template opened one although it was told not to, or cannot be told."""
        family = self.family
        if family.template_opens(text):
            closed = family.close_text or f"\n\n{family.close_tag}\n\n"
            return text.rstrip() + closed
        # Which message comes is the model's choice where it may call a tool.
        return text + family.off_text if family.can_think and not family.switch.off and not tools else text

    @cached_property
    def _control_ids(self) -> dict[str, int]:
        special = filter(self.tokenizer.is_special, range(self.tokenizer.vocab_size))
        return {text: token_id for token_id in special if (text := self.tokenizer.token_text(token_id))}

    @cached_property
    def _control(self) -> re.Pattern[str] | None:
        """A pattern of every control token's text, longest first; None if there are none."""
        texts = sorted(self._control_ids, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts))) if texts else None

    @property
    def _own_tags(self) -> frozenset[str]:
        if (
            self.family.header_begins
        ):  # what ends a thought there ends a message, and no template looks for it
            return frozenset()
        return frozenset(tag for tag in (self.family.open_tag, self.family.close_tag) if tag)

    def _encode_masked(self, text: str, mask: _Mask) -> list[int]:
        """Tokenize a prompt whose messages hold control tokens' texts, which stay texts.

        As a tokenizer does itself: the control tokens of the template cut the prompt into runs of plain text.
        """
        ids: list[int] = []
        end, before = 0, ""
        for found in self._control.finditer(text) if self._control else ():
            ids += self._encode_run(mask.restore(text[end : found.start()]), before, found.group())
            ids.append(self._control_ids[found.group()])
            end, before = found.end(), found.group()
        return ids + self._encode_run(mask.restore(text[end:]), before, "")

    def _encode_run(self, text: str, before: str, after: str) -> list[int]:
        """Tokenize plain text between two control tokens; some swallow the whitespace beside them."""
        if before and self._alone(before, f"{before}\n"):
            text = text.lstrip()
        if after and self._alone(after, f"\n{after}"):
            text = text.rstrip()
        return self._encode(text, parse_special=False)

    def _alone(self, control: str, text: str) -> bool:
        return self._encode(text, parse_special=True) == [self._control_ids[control]]


class _Mask:
    """Stand-ins for control tokens' texts in what users, tools and documents wrote.

    A stand-in is made of private-use characters that nobody can guess. A template carries it through what it
    does with texts (trimming, changing case, writing JSON); what still reads as a control token afterwards is
    the template's own.
    """

    def __init__(self, control: re.Pattern[str] | None, own_tags: frozenset[str]) -> None:
        self.texts: dict[str, str] = {}  # stand-in -> text
        self._by_text: dict[str, str] = {}
        self._control = control
        self._own_tags = own_tags

    def message(self, message: Message) -> Message:
        """Mask a message. The thought tags in an assistant's text are its own: templates look for them."""
        if self._control is None:
            return message
        keep = self._own_tags if message.role == "assistant" else frozenset()
        calls = tuple(
            ToolCall(self._text(call.name), self.tool(call.arguments), self._optional(call.id))
            for call in message.tool_calls
        )
        return replace(
            message,
            content=self._text(message.content, keep),
            thinking=self._optional(message.thinking),
            tool_calls=calls,
            tool_name=self._optional(message.tool_name),
            tool_call_id=self._optional(message.tool_call_id),
        )

    def tool(self, tool: Mapping[str, object]) -> Mapping[str, object]:
        """Mask the description of a tool, or the arguments of a call."""
        if self._control is None:
            return tool
        return {self._text(key): self._value(value) for key, value in tool.items()}

    def restore(self, text: str) -> str:
        """Put the masked texts back; raises InvalidRequest if the template has cut one."""
        if not self.texts:
            return text
        pattern = "|".join(f"{made}|{re.escape(_escaped(made))}" for made in self.texts)
        restored = re.sub(pattern, self._restored, text)
        for made, masked in self.texts.items():
            if made[:3] in restored or made[-3:] in restored:
                raise InvalidRequest(
                    f"the chat template cuts {masked!r}, the text of a control token, out of a message",
                    field="messages",
                )
        return restored

    def _restored(self, found: re.Match[str]) -> str:
        # JSON in ASCII, and Python's own print, spell a private-use character as an escape.
        made = found.group() if found.group() in self.texts else json.loads(f'"{found.group()}"')
        return self.texts[made]

    def _optional(self, text: str | None) -> str | None:
        return None if text is None else self._text(text)

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {self._text(str(key)): self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        return value

    def _text(self, text: str, keep: frozenset[str] = frozenset()) -> str:
        assert self._control is not None
        return self._control.sub(lambda found: self._stand_in(found.group(), keep), text)

    def _stand_in(self, text: str, keep: frozenset[str]) -> str:
        if text in keep:
            return text
        if text not in self._by_text:
            made = "".join(chr(0xE000 + secrets.randbelow(6400)) for _ in range(12))
            self._by_text[text], self.texts[made] = made, text
        return self._by_text[text]


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]


def strip_history(messages: Sequence[Message], history: str = "strip") -> tuple[Message, ...]:
    """Drop the thoughts of turns before the last user message; those of a running tool loop stay.

    history: "strip" drops all of them, "last" keeps those of the last turn before, "keep" keeps all.
    """
    if history == "keep":
        return tuple(messages)
    asked = [index for index, message in enumerate(messages) if message.role == "user"]
    turns = 2 if history == "last" else 1
    first = asked[-turns] if len(asked) >= turns else -1
    return tuple(
        replace(message, thinking=None) if index < first and message.thinking is not None else message
        for index, message in enumerate(messages)
    )
