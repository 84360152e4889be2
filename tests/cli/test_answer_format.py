"""`--format` and `--grammar`: what they read, and what they say about what they cannot."""

from __future__ import annotations

import sys

import pytest
from fake_llm import FakeLLM
from mull.cli import main, run
from mull.cli.answer_format import read_format
from mull.errors import InvalidRequest
from mull.runtime.grammar.constraint import Constraint


def test_forms_and_files(tmp_path):
    schema = tmp_path / "person.json"
    schema.write_text('{"type": "object"}')
    gbnf = tmp_path / "list.gbnf"
    gbnf.write_text('root ::= "a"')
    lark = tmp_path / "list.txt"
    lark.write_text('start: "a"')
    assert read_format(None, None) is None
    assert read_format("json", None) == Constraint("json")
    assert read_format("choice:a,b", None) == Constraint("choice", '["a", "b"]')
    assert read_format(' {"type": "null"}', None) == Constraint("schema", '{"type": "null"}')
    assert read_format(str(schema), None) == Constraint("schema", '{"type": "object"}')
    assert read_format(None, str(gbnf)) == Constraint("gbnf", 'root ::= "a"')
    assert read_format(None, str(lark)) == Constraint("lark", 'start: "a"')


def test_what_cannot_be_read(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{\n  "type": object\n}')
    text = tmp_path / "latin.json"
    text.write_bytes(b'{"a": "\xe9"}')
    for form, grammar, message in [
        ("jsn", None, "'jsn' is neither a format nor a file"),
        ("", None, "neither a format nor a file"),
        ("absent.json", None, "neither a format nor a file"),
        (str(broken), None, r"broken.json is not valid JSON: .*line 2, column 11"),
        (str(text), None, "is not UTF-8"),
        (str(tmp_path), None, "cannot read"),
        (None, str(tmp_path / "absent.gbnf"), "cannot read .*absent.gbnf"),
        ("json", "x.gbnf", "exclude each other"),
        ('{"not": {}}', None, "'not' cannot be enforced"),
        ("regex:(a{1000}){1000}", None, "too large"),
    ]:
        with pytest.raises(InvalidRequest, match=message):
            read_format(form, grammar)


def test_the_request_carries_the_format(monkeypatch, capsys):
    fake = FakeLLM()
    monkeypatch.setattr(run, "open_llm", lambda *args, **options: fake)
    monkeypatch.setattr(run, "read_prompt", lambda words, **options: words[0])
    assert main.run_command(["run", "fake", "hi", "--format", "regex:[0-9]+"]) == 0
    assert fake.requests[0].format == Constraint("regex", "[0-9]+")
    capsys.readouterr()
    assert main.run_command(["run", "fake", "hi", "--format", "nothing"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: 'nothing' is neither a format nor a file"
    assert lines[1].startswith("hint: json, ")


def test_reading_formats_does_not_import_torch():
    import subprocess

    code = "import sys, mull.cli.answer_format; print({'torch', 'llguidance'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
