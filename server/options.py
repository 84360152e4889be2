"""How a server is to run: what `llm serve` and the environment say, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InvalidRequest
from ..runtime.load_options import LoadOptions


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The settings of one server.

    parallel: requests of one model that run at once; max_queue: those that may wait besides, before 503;
    models_max: models in memory at once; keep_alive: seconds that an idle model stays, below 0 for ever;
    max_body: the largest body of a request in bytes; api_keys: keys, one of which each request must bring, none: open;
    origins: further web pages that may ask, as patterns with `*`; load: how models are loaded;
    overflow: what becomes of a conversation that is longer than the context.
    """

    host: str = "127.0.0.1"
    port: int = 11434
    parallel: int = 8
    max_queue: int = 512
    models_max: int = 3
    keep_alive: float = 300.0
    max_body: int = 64 << 20
    api_keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    overflow: str = "error"
    load: LoadOptions = field(default_factory=LoadOptions)

    def __post_init__(self) -> None:
        for name in ("parallel", "max_queue", "models_max", "max_body"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} must be at least 1, not {getattr(self, name)}", field=name)
