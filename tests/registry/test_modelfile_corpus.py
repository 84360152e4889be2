"""A corpus of Modelfiles gives the commands and messages that Ollama's parser gives, and reads back as written."""

from __future__ import annotations

import pytest
from modelfile_corpus import INVALID, OURS_INVALID, VALID, Invalid, Valid
from mull.errors import ModelfileError
from mull.registry.modelfile import Modelfile

WRONG = INVALID | {f"ours: {name}": case for name, case in OURS_INVALID.items()}


@pytest.mark.parametrize("case", VALID.values(), ids=VALID)
def test_valid(case: Valid) -> None:
    modelfile = Modelfile.parse(case.text)
    assert [(command.name, *command.args) for command in modelfile.commands] == case.expected
    assert Modelfile.parse(modelfile.render()) == modelfile


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_invalid(case: Invalid) -> None:
    with pytest.raises(ModelfileError) as caught:
        Modelfile.parse(case.text)
    column = f", column {caught.value.column})"
    where = "" if case.line is None else f" (line {case.line}{column}"
    assert caught.value.message == case.message + where


def test_there_are_enough() -> None:
    assert len(VALID) + len(WRONG) >= 80
