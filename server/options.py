"""How a server is to run: what `llm serve` and the environment say, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..chat.request import Overflow
from ..errors import InvalidRequest
from ..runtime.load_options import LoadOptions


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The settings of one server.

    host, port: where it listens, unless `socket` names a Unix socket; parallel: requests of one model that run at once;
    max_queue: those that may wait besides, before 503; models_max: models in memory at once; keep_alive: seconds that
    an idle model stays, below 0 for ever; max_body: the largest body of a request in bytes; api_keys: keys, of which
    each request must bring one, none: open; origins: further web pages that may ask, as patterns with `*`; tls_cert,
    tls_key: files in PEM; grace: seconds that replies may still take once a signal has come; overflow: what becomes of
    a conversation that is longer than the context; models: those loaded at the start; load: how models are loaded.
    """

    host: str = "127.0.0.1"
    port: int = 11434
    socket: str | None = None
    parallel: int = 8
    max_queue: int = 512
    models_max: int = 3
    keep_alive: float = 300.0
    max_body: int = 64 << 20
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    grace: float = 30.0
    overflow: Overflow = "error"
    models: tuple[str, ...] = ()
    load: LoadOptions = field(default_factory=LoadOptions)

    def __post_init__(self) -> None:
        for name in ("parallel", "max_queue", "models_max", "max_body"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} must be at least 1, not {getattr(self, name)}", field=name)
        if self.tls_key is not None and self.tls_cert is None:
            raise InvalidRequest("a key needs its certificate", field="tls_key", hint="--tls-cert FILE")
