"""The samplers' options on the command line: names, escapes, what --verbose says of them, and --logprobs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from fake_llm import USAGE, FakeLLM
from mull.chat.stream import Done
from mull.cli import main, run
from mull.cli.statistics import Reply, to_json
from mull.runtime.sampling.logprobs import TokenLogprob

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> FakeLLM:
    """Return the model that every name opens."""
    fake = FakeLLM()
    monkeypatch.setattr(run, "open_llm", lambda *args, **options: fake)
    monkeypatch.setattr(run, "is_tty", lambda stream: True)
    return fake


@pytest.fixture
def llm_run(llm: FakeLLM, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs `llm run fake hi` with more arguments: exit code, stdout, stderr."""

    def call(*args: str) -> tuple[int, str, str]:
        code = main.run_command(["run", "fake", "hi", *args])
        return code, *capsys.readouterr()

    return call


def test_options_reach_the_request_by_their_names(llm_run: Run, llm: FakeLLM) -> None:
    flags = (
        "--samplers top_k;temperature --min-keep 2 --top-n-sigma 1 --xtc-probability .5 --xtc-threshold .2 "
        "--dry-multiplier .8 --dry-base 2 --dry-allowed-length 3 --dry-penalty-last-n -1 --dynatemp-range .3 "
        "--dynatemp-exponent 2 --mirostat 2 --mirostat-tau 4 --mirostat-eta .2 --adaptive-target .3 "
        "--adaptive-decay .8"
    )
    assert llm_run(*flags.split())[0] == 0
    assert llm.requests[0].options == {
        "samplers": "top_k;temperature", "min_keep": 2, "top_n_sigma": 1.0, "xtc_probability": 0.5,
        "xtc_threshold": 0.2, "dry_multiplier": 0.8, "dry_base": 2.0, "dry_allowed_length": 3,
        "dry_penalty_last_n": -1, "dynatemp_range": 0.3, "dynatemp_exponent": 2.0, "mirostat": 2,
        "mirostat_tau": 4.0, "mirostat_eta": 0.2, "adaptive_target": 0.3, "adaptive_decay": 0.8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "text"), [("\\n", "\n"), ("\\\\n", "\\n"), ('\\"', '"'), ("a\\tb", "a\tb"), ("none", "none")]
)
def test_a_sequence_breaker_may_be_escaped(written: str, text: str, llm_run: Run, llm: FakeLLM) -> None:
    assert llm_run("--dry-sequence-breaker", written, "--dry-sequence-breaker", ":")[0] == 0
    assert llm.requests[0].options == {"dry_sequence_breakers": [text, ":"]}


@pytest.mark.parametrize(
    ("flags", "says", "hint"),
    [
        ("--samplers top_kk", "unknown sampler 'top_kk'", "did you mean top_k?"),
        ("--samplers kk", "samplers names top_k twice", ""),
        ("--xtc-probability 2", "xtc_probability must be a number from 0 to 1, not 2.0", ""),
        ("--mirostat 3", "mirostat must be 0 (off), 1 or 2, not 3", ""),
        ("--adaptive-decay 1", "adaptive_decay must be a number from 0 to 0.99, not 1.0", ""),
        ("--dry-base 0.5", "dry_base must be a number of at least 1, or 0 to turn it off, not 0.5", ""),
        ("--logprobs -1 --json", "logprobs must be a whole number from 0 to 1000, or absent, not -1", ""),
        ("--logprobs 3", "--logprobs are shown with --json only", "add --json"),
    ],
)
def test_one_clear_error_each(flags: str, says: str, hint: str, llm_run: Run, llm: FakeLLM) -> None:
    code, _, err = llm_run(*flags.split())
    assert code != 0
    assert err.splitlines() == [f"error: {says}", *([f"hint: {hint}"] if hint else [])]
    assert llm.requests == []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("--top-nsigma", "--top-n-sigma"), ("--mirostat-lr", "--mirostat-eta"), ("--sampler-seq", "--samplers")],
)
def test_llama_cpps_other_names_are_told(theirs: str, ours: str, llm_run: Run) -> None:
    assert f"did you mean {ours}?" in llm_run(theirs, "1")[2]


def test_verbose_lists_what_somebody_has_set(llm_run: Run) -> None:
    lines = llm_run("--verbose", "--top-n-sigma", "1")[2].splitlines()
    assert "top_n_sigma 1 (command line)" in lines
    assert "top_k 40 (mull)" in lines
    assert not [line for line in lines if line.startswith(("mirostat", "dry", "samplers"))]


def test_logprobs_are_in_the_json_object() -> None:
    drawn = TokenLogprob(1, -0.25, ((1, -0.25), (0, float("-inf"))))
    done = Done(USAGE, "stop", (1,), 1, logprobs=(drawn,))
    found = to_json("m", Reply("b", "", done, 1.0), lambda token: "ab"[token])
    likeliest = {"token": "b", "id": 1, "logprob": -0.25}
    assert found["logprobs"] == [
        {**likeliest, "top": [likeliest, {"token": "a", "id": 0, "logprob": -9999.0}]}
    ]
    assert "logprobs" not in to_json("m", Reply("b", "", Done(USAGE, "stop", (1,), 1), 1.0))
    json.dumps(found, allow_nan=False)
