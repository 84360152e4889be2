"""What a server has done and is doing, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from ..chat.stream import Done
from .pool import ModelPool

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, pool: ModelPool) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_PoolCollector(pool))
        of_model = ("model",)

        def counter(name: str, text: str, labels: tuple[str, ...] = of_model) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, of_model, buckets=buckets, registry=registry)

        self.requests = counter("mull_requests", "HTTP requests answered", ("path", "method", "status"))
        self._replies = counter("mull_replies", "Replies ended, by the reason", ("model", "reason"))
        self._prompt = counter("mull_prompt_tokens", "Tokens of prompts, cached ones included")
        self._cached = counter("mull_cached_tokens", "Tokens of prompts that the prefix cache held")
        self._generated = counter("mull_generated_tokens", "Tokens generated, thoughts included")
        self._thinking = counter("mull_thinking_tokens", "Tokens of thoughts")
        self._budget = counter("mull_thinking_budget_tokens", "Tokens of thought that replies were allowed")
        self._drafted = counter("mull_drafted_tokens", "Tokens guessed ahead")
        self._accepted = counter("mull_accepted_tokens", "Tokens guessed ahead and right")
        self._used = histogram(
            "mull_thinking_budget_used", "Share of the thinking budget that was used", _SHARES
        )
        self._first = histogram(
            "mull_time_to_first_token_seconds", "From the request to the first token", _SECONDS
        )
        self._whole = histogram("mull_reply_seconds", "From the request to the end of the reply", _SECONDS)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def count_reply(self, model: str, done: Done | None, first: float | None, whole: float) -> None:
        """Count a reply that has ended: seconds to its first token, if it had one, and in all."""
        self._replies.labels(model, done.reason if done is not None else "error").inc()
        self._whole.labels(model).observe(whole)
        if first is not None:
            self._first.labels(model).observe(first)
        if done is None:
            return
        usage, report = done.usage, done.thinking.report
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._generated.labels(model).inc(usage.completion_tokens)
        self._thinking.labels(model).inc(usage.thinking_tokens)
        self._drafted.labels(model).inc(usage.drafted_tokens)
        self._accepted.labels(model).inc(usage.accepted_tokens)
        if report is not None and report.budget:
            self._budget.labels(model).inc(report.budget)
            self._used.labels(model).observe(usage.thinking_tokens / report.budget)


class _PoolCollector(Collector):
    """What is in memory and in the queue at the moment of asking."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        pool = self._pool
        yield GaugeMetricFamily("mull_requests_running", "Requests whose turn it is", value=pool.running)
        yield GaugeMetricFamily(
            "mull_requests_waiting", "Requests that wait for their turn", value=pool.waiting
        )
        yield GaugeMetricFamily("mull_models_loaded", "Models in memory", value=len(pool.loaded))
        memory = GaugeMetricFamily("mull_model_bytes", "Memory of a loaded model", labels=("model", "part"))
        context = GaugeMetricFamily(
            "mull_model_context_tokens", "A loaded model's context", labels=("model",)
        )
        for model in pool.loaded:
            memory.add_metric((model.name, "weights"), model.llm.plan.weight_bytes)
            memory.add_metric((model.name, "cache"), model.llm.plan.cache_bytes)
            context.add_metric((model.name,), model.llm.context_length)
        yield memory
        yield context
