"""A conversation as Markdown or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ..chat.message import Message

FORMS = ("md", "json")


def export_chat(
    form: str,
    title: str,
    model: str,
    messages: Iterable[Message],
    options: Mapping[str, object] | None = None,
) -> str:
    """Write a conversation in one of FORMS."""
    if form == "json":
        said = [
            {"role": m.role, "content": m.content, **({"thinking": m.thinking} if m.thinking else {})}
            for m in messages
        ]
        whole = {"title": title, "model": model, "options": dict(options or {}), "messages": said}
        return json.dumps(whole, ensure_ascii=False, indent=2, default=str) + "\n"
    parts = [f"# {title or 'Chat'}", f"Model: {model}"]
    for message in messages:
        parts.append(f"## {message.role.capitalize()}")
        if message.thinking:
            parts.append(f"<details><summary>Thought</summary>\n\n{message.thinking.strip()}\n\n</details>")
        parts.append(message.content.strip("\n"))
    return "\n\n".join(parts) + "\n"
