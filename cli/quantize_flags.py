"""The options of `llm quantize`, in groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import InvalidRequest
from .options import in_panel
from .quantize_source import parse_size

if TYPE_CHECKING:
    from ..models.quantize import Output
    from ..quant.file_types import FileType
    from ..quant.mixture import MixtureOptions

_mixture = in_panel("What becomes of each tensor")
_file = in_panel("The file")


@dataclass(frozen=True, slots=True)
class MixtureFlags:
    """Which type each tensor gets."""

    imatrix: Annotated[
        Path | None, _mixture("--imatrix", "How much each column matters, from llm imatrix.", "FILE")
    ] = None
    tensor_type: Annotated[
        list[str] | None,
        _mixture("--tensor-type", "A type for tensors of such names; may be given again.", "REGEX=TYPE"),
    ] = None
    output_tensor_type: Annotated[
        str | None, _mixture("--output-tensor-type", "The type of the head.", "TYPE")
    ] = None
    token_embedding_type: Annotated[
        str | None, _mixture("--token-embedding-type", "The type of the embedding.", "TYPE")
    ] = None
    pure: Annotated[bool, _mixture("--pure", "One type for every matrix, and no mixture.")] = False
    leave_output_tensor: Annotated[bool, _mixture("--leave-output-tensor", "Keep the head as it is.")] = False
    allow_requantize: Annotated[
        bool, _mixture("--allow-requantize", "Round again what was rounded before, and lose more.")
    ] = False

    def options(self, kind: FileType | None) -> MixtureOptions:
        """Return what is asked for; raises InvalidRequest for types and expressions that are none."""
        from ..quant.file_types import tensor_type
        from ..quant.mixture import MixtureOptions, Override

        return MixtureOptions(
            file_type=kind,
            overrides=tuple(Override.parse(text) for text in self.tensor_type or ()),
            head=tensor_type(self.output_tensor_type) if self.output_tensor_type else None,
            embedding=tensor_type(self.token_embedding_type) if self.token_embedding_type else None,
            pure=self.pure,
            keep_head=self.leave_output_tensor,
            has_imatrix=self.imatrix is not None,
        )


@dataclass(frozen=True, slots=True)
class FileFlags:
    """What is written beside the weights, and into how many files."""

    name: Annotated[str | None, _file("--name", "Put it into the store as NAME; no DST then.", "NAME")] = None
    override_kv: Annotated[
        list[str] | None, _file("--override-kv", "Set metadata; may be given again.", "KEY=TYPE:VALUE")
    ] = None
    keep_split: Annotated[bool, _file("--keep-split", "As many files as SRC has.")] = False
    split_max_size: Annotated[
        str | None, _file("--split-max-size", "Split into files of this size, such as 5G.", "SIZE")
    ] = None
    split_max_tensors: Annotated[
        int | None, _file("--split-max-tensors", "Split into files of so many tensors.", "N")
    ] = None

    def output(self, path: Path) -> Output:
        """Return how the files are to be written."""
        from ..models.quantize import Output

        size = None if self.split_max_size is None else parse_size(self.split_max_size)
        if self.split_max_tensors is not None and self.split_max_tensors < 1:
            raise InvalidRequest("--split-max-tensors must be at least 1", field="split_max_tensors")
        if self.keep_split and (size or self.split_max_tensors):
            raise InvalidRequest("--keep-split and --split-max-… exclude one another", field="keep_split")
        return Output(path, self.keep_split, size, self.split_max_tensors)
