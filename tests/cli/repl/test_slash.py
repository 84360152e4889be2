"""Every command of the chat, typed into a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_chat import FakeModel, Talk
from mull.chat.message import Message
from mull.chat.stream import Reasoning, Text
from mull.cli.repl.slash import table
from mull.errors import ContextExceeded
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document


def asked(chat: Talk) -> list[list[str]]:
    return [[message.content for message in request.messages] for request in chat.model.requests]


def test_every_command_is_covered() -> None:
    """A new command needs a test here, and in the session on a real terminal."""
    tested = Path(__file__).read_text()
    session = (Path(__file__).parent / "test_real_terminal.py").read_text()
    for name in table.COMMANDS:
        assert f'"{name}' in tested, name
        assert name in session, name


@pytest.mark.parametrize("word", ["/bye", "/exit", "/quit", " /bye"])
def test_bye_leaves(talk, word: str) -> None:
    chat: Talk = talk()
    chat.typed(word.strip(), "never asked")
    assert chat.model.requests == []


def test_help(talk) -> None:
    screen = talk().typed("/?", "/help set", "/? show", "/? shortcuts", "/? regen")
    for name in table.COMMANDS:
        assert name in screen
    for words in ("/set parameter", "/show license", "Ctrl-T", "/regen [SEED]"):
        assert words in screen


def test_help_on_a_narrow_terminal(talk) -> None:
    screen = talk(size=(20, 400)).typed("/?")
    assert "/regen [SEED]\n    Answer the last" in screen


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("/regn", "there is no command /regn\nhint: did you mean /regen?"),
        ("/sav x", "did you mean /save?"),
        ("/xyzzy", "hint: /? lists all"),
        ("/set foo", "there is no /set foo"),
        ("/set verbos", "did you mean /set verbose?"),
        ("/set keys nano", "usage: /set keys vi|emacs"),
        ("/set overflow newest", "usage: /set overflow"),
        ("/set parameter", "temperature  0.6 (gguf)"),
        ("/set parameter top_k", "top_k needs a value"),
        ("/set parameter topk 1", "did you mean top_k?"),
        ("/set parameter top_k x", "invalid int value [x]"),
        ("/set parameter temperature -1", "temperature must be"),
        ("/set parameter num_ctx many", "'many' is not a whole number"),
        ("/set history now", "now means nothing here"),
        ("/set format yaml", "'yaml' is neither a format nor a file"),
        ("/think 12 tokens", "think must be"),
        ("/show weights", "there is no /show weights"),
        ("/load", "usage: /load MODEL"),
        ("/save", "usage: /save NAME"),
        ("/read", "usage: /read FILE|GLOB"),
        ("/read nowhere.txt", "nowhere.txt: no such file"),
        ("/export pdf", "usage: /export md|json"),
        ("/export md", "there is nothing to export yet"),
        ("/copy all", "usage: /copy [code]"),
        ("/copy", "there is no answer to copy"),
        ("/regen", "nothing was asked yet"),
        ("/regen x", "a seed is a whole number"),
        ("/regen " + "9" * 5000, "a seed is a whole number"),
        ("/read " + "x" * 5000, "no such file"),
        ("/format " + "x" * 5000, "is neither a format nor a file"),
        ("/resume " + "9" * 5000, "there is no conversation 999"),
        ("/resume -1", "there is no conversation -1"),
        ("/resume 9999999999999999999", "there is no conversation 999"),
        ("/edit new", "nothing was asked yet"),
        ("/undo", "there is nothing to take back"),
        ("/branch", "there is no kept conversation"),
        ("/resume 77", "there is no conversation 77"),
        ("/resume", "nothing is kept yet"),
        ("/compare", "usage: /compare MODEL"),
        ("/compare other", "nothing was asked yet"),
        ("/stats", "there is no reply yet"),
        ("/? nothing", "there is no command /nothing"),
    ],
)
def test_what_makes_no_sense_is_told(talk, typed: str, says: str) -> None:
    chat: Talk = talk()
    assert says in chat.typed(typed)
    assert chat.model.requests == []


def test_paths_and_sentences_are_no_commands(talk) -> None:
    chat: Talk = talk()
    chat.typed("/etc/passwd is what?", "1/2", "//")
    assert asked(chat)[0] == ["/etc/passwd is what?"]
    assert len(asked(chat)) == 3


def test_set_reaches_the_request(talk, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    chat: Talk = talk()
    chat.typed(
        "/set parameter temperature 0.5", "/set parameter stop one two", "/set system Be brief.",
        "/set think low", "/set overflow oldest", "/format schema.json", "hi",
    )  # fmt: skip
    request = chat.model.requests[0]
    assert request.options == {"temperature": 0.5, "stop": ["one", "two"], "think": "low"}
    assert request.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert request.format is not None
    assert request.format.kind == "schema"
    assert request.overflow == "oldest"
    screen = chat.typed("/set system", "/format", "/set parameter", "/think", "/show parameters")
    for words in ("Be brief.", "schema {", "temperature  0.5 (set here)", "thinking: low", "stop      "):
        assert words in screen
    chat.typed("/set noformat", "/set nothink", '/set system ""', "again")
    request = chat.model.requests[1]
    assert (request.format, request.options["think"]) == (None, "off")
    assert request.messages[0] == Message("user", "hi")
    chat.typed("/think auto", "/set format", "/set format off", "more")
    assert "think" not in chat.model.requests[2].options


def test_a_system_message_of_several_lines(talk) -> None:
    chat: Talk = talk()
    chat.typed('/system """Be', 'brief."""', "hi")
    assert chat.model.requests[0].messages[0] == Message("system", "Be\nbrief.")


def test_think_replaces_a_budget(talk) -> None:
    chat: Talk = talk()
    chat.chat.setup.options = {"think_budget": "100", "top_k": 1}
    chat.typed("/think 512", "hi")
    assert chat.model.requests[0].options == {"top_k": 1, "think": "512"}
    chat.model.can_think = False
    assert "this model cannot think" in chat.typed("/think high")


def test_the_context_can_be_changed_without_losing_the_conversation(talk) -> None:
    chat: Talk = talk()
    screen = chat.typed("hi", "/set parameter num_ctx 4K")
    assert "the context is now 4,096 tokens" in screen
    assert chat.model.is_closed
    assert len(chat.chat.entries) == 2
    assert chat.kept.list()[0].options["num_ctx"] == 4096


def test_load_begins_anew_with_another_model(talk) -> None:
    chat: Talk = talk([Text("a")])
    chat.others["other"] = FakeModel([Text("b")], name="other")
    screen = chat.typed("one", "/load nowhere", "/load broken", "/load other", "two")
    assert "there is no nowhere" in screen
    assert "broken is too short" in screen
    assert "other is loaded, and a new conversation begins" in screen
    assert "/resume 1" in screen
    assert [m.content for m in chat.others["other"].requests[0].messages] == ["two"]
    assert [talk.model for talk in chat.kept.list()] == ["other", "fake"]


def test_save_makes_a_model_of_the_conversation(talk, tmp_path: Path) -> None:
    from mull.registry.store import Store

    chat: Talk = talk([Text("a")])
    chat.model.name = "pocket"
    screen = chat.typed(
        "/set system Be.", "/set parameter top_k 3", "/set parameter stop x y", "one", "/save mine"
    )
    assert "created mine" in screen
    store = Store(tmp_path / "models")
    contents = store.read(store.find("mine").manifest)
    assert contents.system == "Be."
    assert contents.parameters["top_k"] == 3
    assert contents.parameters["stop"] == ["x", "y"]
    assert contents.messages == (("user", "one"), ("assistant", "a"))
    assert "is not a valid" in chat.typed("/save a/b/c/d/e") or "name" in chat.text


def test_switches(talk) -> None:
    chat: Talk = talk([Text("a b c " * 20)])
    chat.typed(
        "/set nohistory", "forgotten", "/set history", "/set verbose", "kept", "/set quiet", "/set nomarkdown",
        "/set markdown", "/set nowordwrap", "/set wordwrap", "/set keys vi", "/set keys emacs", "/set",
    )  # fmt: skip
    assert "eval count:" in chat.text
    assert "keys are Vi's" in chat.text
    typed = (chat.folder / "chat" / "typed").read_text()
    assert "forgotten" not in typed
    assert '"kept"' in typed


def test_show(talk) -> None:
    screen = talk().typed(
        "/show", "/show info", "/show license", "/show template", "/show modelfile", "/show sys"
    )
    assert screen.count("the info of fake") == 2
    assert "no license is known" in screen
    assert "the template of fake" in screen
    assert "did you mean /show system?" in screen


def test_clear_begins_anew_and_keeps_the_old(talk) -> None:
    chat: Talk = talk()
    screen = chat.typed("one", "/clear", "two", "/resume", "/resume 1", "three")
    assert "1 is kept (/resume 1)" in screen
    assert asked(chat) == [["one"], ["two"], ["one", "answer", "three"]]
    assert [t.num_messages for t in chat.kept.list()] == [4, 2]
    assert "two · fake" in screen


def test_regen_asks_again_with_another_seed(talk) -> None:
    chat: Talk = talk([Text("a")], [Text("b")], [Text("c")])
    chat.typed("one", "/regen 7", "/regen")
    assert asked(chat) == [["one"]] * 3
    assert chat.model.requests[1].options["seed"] == 7
    assert "seed" in chat.model.requests[2].options
    assert "seed" not in chat.chat.setup.options
    assert [e.message.content for e in chat.chat.entries] == ["one", "c"]
    assert [s.message.content for s in chat.kept.messages(1)] == ["one", "c"]
    assert len(chat.kept.search("b")) == 1


def test_a_regen_that_fails_brings_the_answer_back(talk) -> None:
    chat: Talk = talk([Text("a")], [ValueError("a bug")], [Text("c")])
    chat.typed("one")
    with pytest.raises(ValueError):
        chat.typed("/regen")
    chat.model._replies[1] = [ContextExceeded("too long")]
    chat.model.requests = chat.model.requests[:1]
    chat.typed("/regen")
    assert [e.message.content for e in chat.chat.entries] == ["one", "a"]
    assert [s.message.content for s in chat.kept.messages(1)] == ["one", "a"]


def test_edit_asks_another_question(talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/one/uno/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    chat: Talk = talk([Text("a")])
    chat.typed("zero", "one", "/edit", "/edit due")
    assert asked(chat)[2:] == [["zero", "a", "uno"], ["zero", "a", "due"]]
    assert "nothing was changed" in chat.typed("/edit")
    monkeypatch.setenv("VISUAL", "/nowhere/ed -x")
    assert "cannot run /nowhere/ed" in chat.typed("/edit")
    monkeypatch.setenv("VISUAL", "false")
    assert "false failed (1)" in chat.typed("/edit")


def test_undo_takes_back(talk) -> None:
    chat: Talk = talk([Text("a")])
    screen = chat.typed("one", "two", "/undo", "three")
    assert "taken back: two" in screen
    assert asked(chat)[2] == ["one", "a", "three"]


def test_branch_leaves_the_first_as_it_is(talk) -> None:
    chat: Talk = talk([Text("a")])
    screen = chat.typed("one", "/branch aside", "two")
    assert "this is now conversation 2; 1 stays as it is" in screen
    assert [s.message.content for s in chat.kept.messages(1)] == ["one", "a"]
    assert [s.message.content for s in chat.kept.messages(2)] == ["one", "a", "two", "a"]
    found = chat.kept.find(2)
    assert found is not None
    assert (found.parent, found.title) == (1, "aside")


def test_read_takes_files_along(talk, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print('a')\n")
    (tmp_path / "b.py").write_text("```\nno newline")
    chat: Talk = talk([Text("a")])
    screen = chat.typed("/read *.py", "/tokens", "/ctx", "what is this?", "and now?")
    assert "2 files: " in screen
    assert "to come: a.py:" in screen
    assert asked(chat)[0] == [
        "a.py:\n```py\nprint('a')\n```\n\nb.py:\n````py\n```\nno newline\n````\n\nwhat is this?"
    ]
    assert asked(chat)[1][-1] == "and now?"


def test_read_refuses_what_is_no_text(talk, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "long").write_text("word " * 3000)
    screen = talk().typed("/read binary", f"/read {tmp_path}", "/read long")
    assert "binary is not UTF-8 text (at byte 0)" in screen
    assert "is a folder" in screen.replace("\n", "")
    assert "more than the 2,048 tokens" in screen


def test_copy_reaches_the_terminal(talk) -> None:
    import base64

    chat: Talk = talk([Text("See:\n```\ncode()\n```\n")])
    chat.typed("one", "/copy", "/copy code")
    for text in ("See:\n```\ncode()\n```\n", "code()\n"):
        assert f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07" in chat.out.getvalue()
    chat.model._replies = [[Text("none")]]
    assert "there is no code" in chat.typed("two", "/copy code")


def test_export(talk, tmp_path: Path) -> None:
    chat: Talk = talk([Reasoning("hm"), Text("**Yes**")])
    screen = chat.typed("/system Be.", "is it?", "/export md", "/export json out.json", "/export md")
    assert "written to chat-1.md" in screen
    assert "chat-1.md exists already" in screen
    written = (tmp_path / "chat-1.md").read_text()
    assert "## User\n\nis it?" in written
    assert "hm" in written
    assert json.loads((tmp_path / "out.json").read_text())["messages"] == [
        {"role": "system", "content": "Be."},
        {"role": "user", "content": "is it?"},
        {"role": "assistant", "content": "**Yes**", "thinking": "hm"},
    ]


def test_figures(talk) -> None:
    chat: Talk = talk([Reasoning("one two"), Text("a b c")])
    screen = chat.typed("/tokens", "/tokens how many words", "hi there", "again", "/tokens", "/ctx", "/stats")
    assert "nothing was said yet" in screen
    assert "3 tokens" in screen
    assert "3 + 2 of thought  assistant: a b c" in screen
    assert "24/2,048 1%" in screen
    assert "prompt reused:        15 token(s); 5 new (25.0%)" in screen
    assert "this chat: 2 replies, 40 prompt tokens (30 reused)" in screen


def test_compare_shows_both_and_keeps_neither(talk) -> None:
    chat: Talk = talk([Text("mine")])
    other = FakeModel([Reasoning("hm"), Text("theirs")], name="other")
    chat.others["other"] = other
    screen = chat.typed("first", "which?", "/compare other", "/compare nowhere")
    rows = [line for line in screen.splitlines() if " │ " in line]
    assert [[cell.strip() for cell in row.split("│")] for row in rows] == [
        ["fake", "other"],
        ["mine", "theirs"],
    ]
    assert [m.content for m in other.requests[0].messages] == ["first", "mine", "which?"]
    assert other.is_closed
    assert len(chat.chat.entries) == 4
    assert "there is no nowhere" in screen
    chat.typed("/compare other A new one?")
    assert [m.content for m in chat.model.requests[2].messages] == [
        "first",
        "mine",
        "which?",
        "mine",
        "A new one?",
    ]
    assert len(chat.chat.entries) == 4


def test_compare_on_a_narrow_terminal(talk) -> None:
    chat: Talk = talk([Text("mine")], size=(20, 100))
    screen = chat.typed("which?", "/compare other")
    assert "fake\nmine\n\nother\nanswer" in screen


@pytest.mark.parametrize(
    ("typed", "offers"),
    [
        ("/re", ["/regen", "/resume", "/read"]),
        ("/set ke", ["keys"]),
        ("/set parameter top", ["top_k", "top_p", "top_n_sigma"]),
        ("/set keys ", ["vi", "emacs"]),
        ("/think m", ["minimal", "medium", "max"]),
        ("/show sy", ["system"]),
        ("/read sub/f", ["sub/file.txt"]),
        ("/read su", ["sub/"]),
        ("/export md s", ["sub/"]),
        ("/copy c", ["code"]),
        ("/? sho", ["show", "shortcuts"]),
        ("hello /re", []),
        ("/undo x", []),
    ],
)
def test_completion(talk, tmp_path: Path, typed: str, offers: list[str]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.txt").touch()
    (tmp_path / "sub" / ".hidden").touch()
    chat: Talk = talk()
    found = chat.completer.get_completions(Document(typed), CompleteEvent())
    assert [completion.text for completion in found] == offers


def test_models_are_completed(talk) -> None:
    chat: Talk = talk()
    for line in ("/load poc", "/compare poc"):
        found = list(chat.completer.get_completions(Document(line), CompleteEvent()))
        assert [completion.text for completion in found] == ["pocket:latest"]
