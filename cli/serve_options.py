"""The options of `llm serve`: what the command line says comes before what the environment says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import InvalidRequest
from .options import in_panel

if TYPE_CHECKING:
    from ..runtime.load_options import LoadOptions
    from ..server.options import ServerOptions

_where = in_panel("Where")
_who = in_panel("Who may ask")
_many = in_panel("How many")
_how = in_panel("How models are loaded")
_log = in_panel("Log")

_COUNT, _TOKENS, _FILE = "NUMBER", "TOKENS", "FILE"
LEVELS = ("debug", "info", "warning", "error")
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True, slots=True)
class ServeFlags:
    """What the command line says of a server; None is what the environment says, or the default."""

    host: Annotated[
        str | None, _where("--host", "The address to listen on; by default this machine's own only.", "HOST")
    ] = None
    port: Annotated[str | None, _where("--port -p", "The port (11434); 0: any that is free.", "PORT")] = None
    socket: Annotated[str | None, _where("--socket", "Listen on a Unix socket instead.", "PATH")] = None
    tls_cert: Annotated[str | None, _where("--tls-cert", "A certificate in PEM: serve https.", _FILE)] = None
    tls_key: Annotated[str | None, _where("--tls-key", "Its key, if that is another file.", _FILE)] = None
    api_key: Annotated[
        list[str] | None, _who("--api-key", "A key that requests must bring; may be given again.", "KEY")
    ] = None
    api_key_file: Annotated[str | None, _who("--api-key-file", "A file of keys, one a line.", _FILE)] = None
    origins: Annotated[
        str | None, _who("--origins", "Web pages that may ask, such as https://*.example.com,…", "LIST")
    ] = None
    parallel: Annotated[str | None, _many("--parallel -np", "Requests of a model at once (8).", _COUNT)] = (
        None
    )
    max_queue: Annotated[
        str | None, _many("--max-queue", "Requests that may wait besides (512); more get 503.", _COUNT)
    ] = None
    models_max: Annotated[str | None, _many("--models-max", "Models in memory at once (3).", _COUNT)] = None
    keep_alive: Annotated[
        str | None, _many("--keep-alive", "How long an idle model stays: 5m, 1h, 0, -1: for ever.", "TIME")
    ] = None
    grace: Annotated[
        str | None, _many("--grace", "How long replies may still take after Ctrl-C (30s).", "TIME")
    ] = None
    num_ctx: Annotated[
        str | None, _how("--num-ctx -c", "The context, such as 4096 or 32K; by default the model's.", _TOKENS)
    ] = None
    overflow: Annotated[
        str | None, _how("--overflow", "For longer conversations: error, oldest or middle.", "WHAT")
    ] = None
    think_max: Annotated[
        str | None, _how("--think-max", "The most tokens of thought that any request gets.", _TOKENS)
    ] = None
    cache_type_k: Annotated[
        str | None, _how("--cache-type-k -ctk", "What keys are cached in: f16, q8_0 …", "TYPE")
    ] = None
    cache_type_v: Annotated[str | None, _how("--cache-type-v -ctv", "What values are cached in.", "TYPE")] = (
        None
    )
    threads: Annotated[str | None, _how("--threads -t", "CPU threads; 0: one per core.", _COUNT)] = None
    prompt_cache: Annotated[
        str | None, _how("--prompt-cache", "Keep long prompts on disk as well, in so many bytes.", "SIZE")
    ] = None
    speculate: Annotated[
        str | None, _how("--speculate", "Guess tokens ahead: auto (as many as pay), off, or N.", "HOW")
    ] = None
    draft: Annotated[
        str | None, _how("--draft", "A smaller model of the same vocabulary that guesses.", "MODEL")
    ] = None
    deterministic: Annotated[
        bool, _how("--deterministic", "The same request gives the same text, whatever else runs.")
    ] = False
    log_level: Annotated[
        str | None, _log("--log-level", "debug, info, warning or error (info).", "LEVEL")
    ] = None


def server_options(
    flags: ServeFlags, said: Mapping[str, tuple[str, str]], models: tuple[str, ...]
) -> tuple[ServerOptions, str]:
    """Return the options of a server and the level of its log; raises InvalidRequest that names the source.

    said: an option's name → the variable of the environment and its text.
    """
    from dataclasses import replace

    from ..server.address import parse_address
    from ..server.keep_alive import parse_keep_alive
    from ..server.options import ServerOptions

    texts = _texts(flags, said)
    given: dict[str, object] = {"models": models, "api_keys": _keys(flags, said)}
    if "host" in texts:
        source, text = texts.pop("host")
        address = parse_address(text, source)
        given |= {"host": address.host, "port": address.port}
    readers: dict[str, Callable[[str, str], object]] = {
        "port": lambda text, source: whole(text, source, 0, 65535),
        "parallel": lambda text, source: whole(text, source, 1, 256),
        "max_queue": lambda text, source: whole(text, source, 1, 1 << 20),
        "models_max": lambda text, source: whole(text, source, 1, 1 << 10),
        "keep_alive": parse_keep_alive,
        "grace": parse_keep_alive,
        "origins": lambda text, source: tuple(part.strip() for part in text.split(",") if part.strip()),
        "overflow": lambda text, source: one_of(text, source, ("error", "oldest", "middle")),
        **{name: lambda text, source: text for name in ("socket", "tls_cert", "tls_key")},
    }
    for name, read in readers.items():
        if name in texts:
            given[name] = read(texts[name][1], texts[name][0])
    level = texts.pop("log_level", ("", "info"))
    given["load"] = _load_options(texts)
    return replace(ServerOptions(), **given), one_of(level[1], level[0], LEVELS)  # type: ignore[arg-type]


def _load_options(texts: Mapping[str, tuple[str, str]]) -> LoadOptions:
    """Read how models are to be loaded."""
    from dataclasses import replace

    from ..runtime.load_options import LoadOptions, parse_speculate

    types = ("auto", "f32", "f16", "bf16", "q8_0", "q4_0")
    readers: dict[str, Callable[[str, str], object]] = {
        "num_ctx": lambda text, source: whole(text, source, 0, 1 << 30) or None,
        "threads": lambda text, source: whole(text, source, 0, 1 << 12) or None,
        "cache_type_k": lambda text, source: one_of(text, source, types),
        "cache_type_v": lambda text, source: one_of(text, source, types),
        "prompt_cache": lambda text, source: whole(text, source, 0, 1 << 50) or None,
        "speculate": lambda text, source: text,
        "draft": lambda text, source: text,
        "deterministic": lambda text, source: text.lower() in ("1", "true", "yes", "on"),
    }
    given = {name: read(texts[name][1], texts[name][0]) for name, read in readers.items() if name in texts}
    if "speculate" in given:
        parse_speculate(texts["speculate"][1])
    return replace(LoadOptions(), **given)  # type: ignore[arg-type]


def _texts(flags: ServeFlags, said: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return each option that was set: where, and its text."""
    texts = dict(said)
    for field in fields(flags):
        value = getattr(flags, field.name)
        if value is True:
            value = "1"
        if isinstance(value, str):
            texts[field.name] = (f"--{field.name.replace('_', '-')}", value)
    if isinstance(flags.host, str) and flags.port is None and ":" in flags.host:
        texts.pop("port", None)  # the variable's, which the flag's own port comes before
    return texts


def _keys(flags: ServeFlags, said: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    keys = list(flags.api_key or ())
    if not keys and "api_key" in said:
        keys = said["api_key"][1].split(",")
    path = flags.api_key_file or said.get("api_key_file", ("", ""))[1]
    if path:
        try:
            keys += Path(path).expanduser().read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the keys cannot be read: {error}", field="api_key_file") from error
    keys = [key.strip() for key in keys if key.strip() and not key.lstrip().startswith("#")]
    if not keys and (flags.api_key or path):
        raise InvalidRequest(
            "no API key was given", field="api_key", hint="a server without keys is open to all"
        )
    return tuple(keys)


def whole(text: str, source: str, least: int, most: int) -> int:
    """Read a whole number, or one with K, M or G; raises InvalidRequest that names where it stands."""
    digits, unit = (text[:-1], _UNITS[text[-1:].lower()]) if text[-1:].lower() in _UNITS else (text, 1)
    if not (
        digits.isascii() and digits.isdigit() and len(digits) < 18 and least <= int(digits) * unit <= most
    ):
        raise InvalidRequest(
            f"{source} must be a whole number from {least} to {most}, not {text[:40]!r}", field=source
        )
    return int(digits) * unit


def one_of(text: str, source: str, known: tuple[str, ...]) -> str:
    """Read one of the known words; raises InvalidRequest that names where it stands."""
    if text.lower() not in known:
        raise InvalidRequest(
            f"{source}: {text[:40]!r} is unknown", field=source, hint=f"one of {', '.join(known)}"
        )
    return text.lower()
