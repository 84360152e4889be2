"""The log of thoughts: what is kept, what it advises, and `llm think stats`."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from mull.cli import main
from mull.cli.think_log import ThinkLog, Thought, habit, too_small
from mull.runtime.thinking.plan import EndReason, ThinkingReport


def report(
    tokens: int = 40, reason: EndReason | None = "natural", requested: int | None = None, rounds: int = 0
) -> ThinkingReport:
    return ThinkingReport(tokens, 100, requested, 0, reason, rounds, 0, 0, 0, 1.0)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ThinkLog:
    """The log that the command reads, empty."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return ThinkLog(tmp_path / "mull")


def natural(*lengths: int) -> list[Thought]:
    return [Thought(length, None, "natural") for length in lengths]


def test_what_is_kept_of_a_thought(log: ThinkLog) -> None:
    assert (log.models(), log.thoughts("m")) == ([], [])
    log.add("m", report(12, "hard", 16))
    log.add("m", report(30))
    log.add("n", report(5, "landing"))
    assert log.models() == ["m", "n"]
    assert log.thoughts("m") == [Thought(12, 16, "hard"), Thought(30, None, "natural")]
    assert json.loads(log.path.read_text()) == {
        "m": [[12, 16, "hard"], [30, None, "natural"]],
        "n": [[5, None, "landing"]],
    }


def test_no_thought_is_not_counted(log: ThinkLog) -> None:
    log.add("m", report(0))
    log.add("m", report(9, None))
    assert log.models() == []
    assert not log.path.exists()


def test_a_thought_that_was_told_to_go_on_is_no_natural_one(log: ThinkLog) -> None:
    log.add("m", report(90, rounds=2))
    assert log.thoughts("m") == [Thought(90, None, "extended")]
    assert habit(log.thoughts("m")).median is None


def test_the_last_200_are_kept(log: ThinkLog) -> None:
    log.path.parent.mkdir(parents=True)
    log.path.write_text(json.dumps({"m": [[n, None, "natural"] for n in range(1, 201)]}))
    log.add("m", report(500))
    kept = log.thoughts("m")
    assert (len(kept), kept[0].tokens, kept[-1].tokens) == (200, 2, 500)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"m": 3}', '{"m": null}', "null", "\xff", '{"m": [[1, 2]]}']
)
def test_a_broken_file_counts_as_empty_and_is_replaced(log: ThinkLog, text: str) -> None:
    log.path.parent.mkdir(parents=True)
    log.path.write_text(text, encoding="latin-1")
    assert log.thoughts("m") == []
    log.add("m", report(7))
    assert log.thoughts("m") == [Thought(7, None, "natural")]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = ThinkLog(tmp_path / "file" / "state")
    log.add("m", report())
    assert log.models() == []


def test_many_at_once_lose_nothing(log: ThinkLog) -> None:
    threads = [threading.Thread(target=log.add, args=("m", report(n + 1))) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(thought.tokens for thought in log.thoughts("m")) == list(range(1, 13))
    assert {path.suffix for path in log.path.parent.iterdir()} == {".json", ".lock"}


def test_lengths_and_reasons() -> None:
    found = habit([*natural(*range(10, 110, 10)), Thought(64, 64, "hard"), Thought(32, 64, "soft")])
    assert (found.count, found.median, found.p90, found.with_budget) == (12, 60, 100, 2)
    assert found.utilisation == 0.75
    assert found.reasons == {"natural": pytest.approx(10 / 12), "hard": 1 / 12, "soft": 1 / 12}


@pytest.mark.parametrize(
    ("thoughts", "advice"),
    [
        ([], "no budgets were set"),
        (natural(5, 6), "no budgets were set"),
        ([Thought(95, 100, "soft")] * 5, "raise the budget: 0% of thoughts were cut, 95% of it is used"),
        ([Thought(80, 100, "natural")] * 4 + [Thought(80, 100, "hard")], "raise the budget: 20%"),
        ([Thought(80, 100, "natural")] * 4 + [Thought(80, 100, "landing")], "raise the budget: 20%"),
        ([Thought(69, 100, "natural")] * 5, "lower the budget, or leave it: only 69%"),
        ([Thought(70, 100, "natural")] * 5, "the budget fits: 70%"),
        ([Thought(90, 100, "soft")] * 5, "the budget fits: 90%"),
    ],
)
def test_advice_follows_the_rule_of_70_to_90_percent(thoughts: list[Thought], advice: str) -> None:
    assert habit(thoughts).advice.startswith(advice)


def test_a_budget_far_below_the_usual_thought_warns() -> None:
    usual = natural(400, 500, 600, 500, 500)
    assert "--think off" in str(too_small(74, usual))
    assert too_small(75, usual) is None
    assert too_small(1, natural(400, 500)) is None
    assert too_small(1, []) is None
    # Thoughts that were cut say nothing of how long they would have been.
    assert too_small(1, [Thought(500, 500, "hard")] * 9 + natural(500)) is None


def test_statistics_as_text(log: ThinkLog, capsys: pytest.CaptureFixture[str]) -> None:
    for tokens, reason, requested in ((40, "natural", None), (50, "natural", None), (45, "hard", 50)):
        log.add("pocket", report(tokens, reason, requested))  # type: ignore[arg-type]
    log.add("other", report(7, "landing"))
    assert main.run_command(["think", "stats"]) == 0
    assert capsys.readouterr().out == (
        "other: 1 reply\n"
        "  ends            landing 100%\n"
        "  advice          no budgets were set\n"
        "\n"
        "pocket: 3 replies\n"
        "  natural length  50 tokens, 90 % within 50\n"
        "  ends            natural 67%, hard 33%\n"
        "  budgets         1, 90% used on average\n"
        "  advice          raise the budget: 100% of thoughts were cut, 90% of it is used\n"
    )
    assert main.run_command(["think", "stats", "other"]) == 0
    assert "pocket" not in capsys.readouterr().out


def test_statistics_as_json(log: ThinkLog, capsys: pytest.CaptureFixture[str]) -> None:
    log.add("pocket", report(45, "hard", 50))
    assert main.run_command(["think", "stats", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["pocket"]
    assert (found["count"], found["median"], found["utilisation"]) == (1, None, 0.9)


def test_nothing_is_known_yet(log: ThinkLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run_command(["think", "stats"]) == 0
    assert "nothing yet" in capsys.readouterr().out
    assert main.run_command(["think", "stats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {}


def test_an_unknown_model_and_an_unknown_word_are_errors(
    log: ThinkLog, capsys: pytest.CaptureFixture[str]
) -> None:
    log.add("pocket", report())
    assert main.run_command(["think", "stats", "nobody"]) == 1
    assert "known: pocket" in capsys.readouterr().err
    assert main.run_command(["think", "everything"]) == 2
