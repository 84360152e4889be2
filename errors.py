"""Every error that mull raises on purpose: a message, a hint, an HTTP status and an exit code.

MullError
├── InvalidRequest            a field of a request that cannot be honoured
│   ├── ContextExceeded       the prompt is longer than the context
│   └── NotSupported          the model or this machine cannot do what was asked
├── InvalidName               a model name that breaks the naming rules
├── ModelNotFound             no such model in the store, and no such file
├── ModelfileError            a Modelfile that does not parse; names line and column
├── CheckpointError           a model file that cannot be used
│   ├── UnknownFormat         neither GGUF nor a folder of safetensors
│   ├── CorruptFile           truncated or inconsistent
│   ├── UnsupportedArchitecture
│   ├── MissingTensor
│   ├── UnexpectedTensor
│   └── ShapeMismatch
├── TokenizerError            a tokenizer that is absent, broken or of an unknown kind
├── TemplateError             a chat template that does not compile or fails
├── StoreError                the registry's folder cannot be read or written
│   └── DiskFull
├── RemoteError               another machine refused, failed, or sent something else than it announced
│   ├── Unreachable           no answer at all: no network, no such host, or a proxy in between
│   └── DigestMismatch        the bytes that came are not those that were announced
├── Cancelled                 whoever asked does not want it any more
├── HistoryError              the file of kept conversations cannot be read or written
├── OutOfMemory               estimated before the memory is taken
└── EngineStopped             the engine thread ended while a request was waiting
"""

from __future__ import annotations


class MullError(Exception):
    """The root of all our errors; anything else that reaches a user is a bug.

    status: the HTTP status that the server answers with; exit_code: the command's exit status.
    """

    status = 500
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidRequest(MullError):
    """A request that cannot be honoured; `field` names the part at fault."""

    status = 400

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class ContextExceeded(InvalidRequest):
    """The prompt does not fit into the context; tokens: those of the prompt and of the context, where known."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        hint: str | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message, field=field, hint=hint)
        self.tokens = tokens


class NotSupported(InvalidRequest):
    """The model or this machine cannot do what was asked."""


class InvalidName(MullError):
    """A model name that breaks the naming rules."""

    status = 400


class ModelNotFound(MullError):
    """No such model in the store, and no such file."""

    status = 404


class ModelfileError(MullError):
    """A Modelfile that does not parse; line and column count from 1."""

    status = 400

    def __init__(
        self, message: str, *, line: int | None = None, column: int | None = None, hint: str | None = None
    ) -> None:
        where = "" if line is None else f" (line {line}, column {column or 1})"
        super().__init__(message + where, hint=hint)
        self.line = line
        self.column = column


class CheckpointError(MullError):
    """A model file that cannot be used."""


class UnknownFormat(CheckpointError):
    """Neither GGUF nor a folder of safetensors."""


class CorruptFile(CheckpointError):
    """Truncated, or inconsistent with itself."""


class UnsupportedArchitecture(CheckpointError):
    """An architecture that no file in `models/` implements."""


class MissingTensor(CheckpointError):
    """A tensor that the architecture needs and the checkpoint lacks."""


class UnexpectedTensor(CheckpointError):
    """A tensor that the checkpoint holds and nothing asked for."""


class ShapeMismatch(CheckpointError):
    """A tensor whose shape contradicts the configuration."""


class TokenizerError(MullError):
    """A tokenizer that is absent, broken or of an unknown kind."""


class TemplateError(MullError):
    """A chat template that does not compile, or fails on these messages."""

    status = 400


class StoreError(MullError):
    """The registry's folder cannot be read or written."""


class DiskFull(StoreError):
    """No space left for what was to be written."""

    status = 507


class RemoteError(MullError):
    """Another machine refused, failed, or sent something else than it announced."""

    status = 502


class Unreachable(RemoteError):
    """No answer at all: no network, no such host, or a proxy in between."""

    status = 504


class DigestMismatch(RemoteError):
    """The bytes that came are not those that were announced."""


class Cancelled(MullError):
    """Whoever asked does not want it any more."""

    status = 499
    exit_code = 130


class HistoryError(MullError):
    """The file of kept conversations cannot be read or written."""


class OutOfMemory(MullError):
    """More memory than the machine has, estimated before it was taken."""

    status = 507


class EngineStopped(MullError):
    """The engine thread ended while a request was waiting."""
