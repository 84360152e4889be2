"""Divergence and its sums against float64 arithmetic, one token at a time."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from mull.runtime.divergence import PredictionFile, Predictions, Scores, join, score, summarize

VOCAB = 50


def logits(rows: int, seed: int, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * spread


def targets(rows: int) -> list[int]:
    return torch.randint(0, VOCAB, (rows,), generator=torch.Generator().manual_seed(9)).tolist()


def pair(rows: int = 40) -> tuple[torch.Tensor, torch.Tensor, Scores]:
    a = logits(rows, 0)
    b = a + logits(rows, 1, 0.5) + 7.0  # a constant changes nothing
    return a, b, score(Predictions.of(a, targets(rows)), Predictions.of(b, targets(rows)))


def test_scores_equal_float64() -> None:
    a, b, scores = pair()
    p, q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    rows = list(range(len(a)))
    np.testing.assert_allclose(scores.kl, (p.exp() * (p - q)).sum(-1), atol=1e-5)
    np.testing.assert_allclose(scores.nll_base, -p[rows, targets(40)], rtol=1e-5)
    np.testing.assert_allclose(scores.nll, -q[rows, targets(40)], rtol=1e-5)
    np.testing.assert_array_equal(scores.same_top, a.argmax(-1) == b.argmax(-1))
    change = q[rows, targets(40)].exp() - p[rows, targets(40)].exp()
    np.testing.assert_allclose(scores.delta_p, change, atol=1e-6)


def test_a_model_does_not_diverge_from_itself() -> None:
    found = Predictions.of(logits(20, 0), targets(20))
    result = summarize(score(found, found))
    assert result.kl.value == result.kl_spread.maximum == result.delta_p_rms.value == 0
    assert result.same_top.value == result.correlation == 1
    assert result.log_ratio.value == result.log_ratio.error == 0


def test_the_summary_follows_llama_perplexity() -> None:
    _, _, scores = pair(30)
    result, count = summarize(scores), 30
    loss, base = scores.nll, scores.nll_base
    error, error_base = (math.sqrt(np.var(x) / (count - 1)) for x in (loss, base))
    covariance = (np.mean(loss * base) - loss.mean() * base.mean()) / (count - 1)
    assert result.tokens == count
    assert result.ppl.value == pytest.approx(math.exp(loss.mean()))
    assert result.ppl.error == pytest.approx(math.exp(loss.mean()) * error)
    assert result.ppl_base.value == pytest.approx(math.exp(base.mean()))
    assert result.log_ratio.value == pytest.approx(loss.mean() - base.mean())
    assert result.log_ratio.error == pytest.approx(math.sqrt(error**2 + error_base**2 - 2 * covariance))
    assert result.correlation == pytest.approx(covariance / (error * error_base))
    assert result.kl.error == pytest.approx(math.sqrt(np.var(scores.kl) / (count - 1)))
    assert result.kl_spread.median == pytest.approx(np.median(scores.kl))
    assert result.kl_spread.p99 == pytest.approx(np.quantile(scores.kl, 0.99))
    assert result.kl_spread.maximum == scores.kl.max()
    assert result.delta_p.value == pytest.approx(scores.delta_p.mean())
    assert result.delta_p_rms.value == pytest.approx(math.sqrt(np.mean(scores.delta_p**2)))
    share = scores.same_top.mean()
    assert result.same_top.value == share
    assert result.same_top.error == pytest.approx(math.sqrt(share * (1 - share) / (count - 1)))


def test_impossible_tokens() -> None:
    a, b = logits(2, 0), logits(2, 1)
    a[:, 3] = -math.inf
    possible = score(Predictions.of(a, [0, 1]), Predictions.of(b, [0, 1]))
    p, q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    expected = torch.where(p.isfinite(), p.exp() * (p - q), 0.0).sum(-1)
    np.testing.assert_allclose(possible.kl, expected, atol=1e-5)
    # What the base finds possible and the other does not costs everything, and spoils no other figure.
    impossible = score(Predictions.of(b, [0, 1]), Predictions.of(a, [0, 1]))
    assert np.isinf(impossible.kl).all()
    result = summarize(join([possible, impossible]))
    assert math.isinf(result.kl.value)
    assert math.isfinite(result.kl_spread.minimum)


def test_predictions_put_aside_lose_little() -> None:
    a, b, scores = pair(40)
    file = io.BytesIO()
    kept = PredictionFile(file, VOCAB)
    for rows in (slice(0, 25), slice(25, 40)):
        kept.append(Predictions.of(a[rows], targets(40)[rows]))
    assert len(file.getvalue()) == PredictionFile.nbytes(40, VOCAB)
    kept.rewind()
    parts = [
        score(kept.next(), Predictions.of(b[rows], targets(40)[rows]))
        for rows in (slice(0, 25), slice(25, 40))
    ]
    found = join(parts)
    np.testing.assert_array_equal(found.nll_base, scores.nll_base)
    np.testing.assert_array_equal(found.same_top, scores.same_top)
    np.testing.assert_allclose(found.kl, scores.kl, atol=1e-3)
    assert found.kl.mean() == pytest.approx(scores.kl.mean(), abs=1e-4)


def test_few_tokens_have_no_error() -> None:
    _, _, scores = pair(5)
    assert summarize(scores).kl.error == 0
