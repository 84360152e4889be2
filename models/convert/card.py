"""What a folder says about its model in general: names, size, licence, origin, recommended sampling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.gguf_values import Typed, ValueType
from .keys import typed
from .tensors import Source

_HUB = "https://huggingface.co/"
_SNAPSHOT = re.compile(r"models--(.+)--(.+)")
_VERSION = re.compile(r"(?:v|iter)?\d+(?:[.]\d+)*", re.IGNORECASE)
_SIZE = re.compile(r"(?:a|\d+x)?\d+(?:[._]\d+)?[kmbt]\d?|small|mini|medium|large|x?xl", re.IGNORECASE)
_PRECISION = re.compile(r"i?q\d(?:_\w)*|b?fp?(?:16|32)", re.IGNORECASE)
_LINE = re.compile(r"([A-Za-z_]\w*):\s*(.*)")
# The card's names, and GGUF's under `general.`.
_TEXTS = {"license": "license", "license_name": "license_name", "license_link": "license_link"}
_LISTS = {"tags": ("tags", "pipeline_tag"), "languages": ("languages", "language")}

# Beyond any sampling option; it keeps a damaged number, and NaN, from the file.
_MOST = 1e9
_SAMPLING: tuple[tuple[str, tuple[str, ...], ValueType], ...] = (
    ("top_k", ("top_k",), ValueType.INT32),
    ("top_p", ("top_p",), ValueType.FLOAT32),
    ("min_p", ("min_p",), ValueType.FLOAT32),
    ("xtc_probability", ("xtc_probability",), ValueType.FLOAT32),
    ("xtc_threshold", ("xtc_threshold",), ValueType.FLOAT32),
    ("temp", ("temperature",), ValueType.FLOAT32),
    ("penalty_last_n", ("penalty_last_n",), ValueType.INT32),
    ("penalty_repeat", ("penalty_repeat", "repetition_penalty"), ValueType.FLOAT32),
    ("mirostat", ("mirostat",), ValueType.INT32),
    ("mirostat_tau", ("mirostat_tau",), ValueType.FLOAT32),
    ("mirostat_eta", ("mirostat_eta",), ValueType.FLOAT32),
)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A repository's name, taken apart: Qwen3-0.6B-Instruct is a Qwen3 of 0.6B, an Instruct."""

    full: str
    organization: str = ""
    basename: str = ""
    size: str = ""
    finetune: str = ""
    version: str = ""

    @property
    def title(self) -> str:
        """The name as one writes it."""
        words = self.full.replace("-", " ").split()
        return " ".join(w.title() if w.islower() and not re.match(r"v\d|\d", w) else w for w in words)


def general_keys(folder: Path, config: Mapping[str, object], tensors: Iterable[Source]) -> dict[str, Typed]:
    """Return `general.*`, but for the architecture and the file type; config: of config.json."""
    tensors = list(tensors)
    card = read_card(folder)
    name = parse_name(_repository(folder, config), _count(tensors))
    texts = {
        "name": _text(card.get("model_name")) or name.title,
        "author": _text(card.get("model_creator")),
        "organization": _title(name.organization),
        "version": name.version,
        "finetune": name.finetune,
        "basename": name.basename,
        "size_label": name.size or size_label(tensors),
    }
    texts |= {ours: ",".join(_list(card.get(theirs))) for theirs, ours in _TEXTS.items()}
    keys: dict[str, object] = {key: text for key, text in texts.items() if text}
    keys |= _origins("base_model", _list(card.get("base_model") or card.get("base_models")))
    keys |= _origins("dataset", _list(card.get("datasets") or card.get("dataset")))
    for ours, names in _LISTS.items():
        found = [text for theirs in names for text in _list(card.get(theirs))]
        if found:
            keys[ours] = found
    return {"general.type": typed("model")} | {f"general.{key}": typed(value) for key, value in keys.items()}


def sampling_keys(generation: Mapping[str, object]) -> dict[str, Typed]:
    """Return `general.sampling.*` from generation_config.json."""
    keys = {}
    for key, names, kind in _SAMPLING:
        value = next((generation[name] for name in names if generation.get(name) is not None), None)
        if isinstance(value, int | float) and not isinstance(value, bool) and -_MOST <= value <= _MOST:
            number = int(value) if kind is ValueType.INT32 else float(value)
            keys[f"general.sampling.{key}"] = Typed(number, kind)
    return keys


def size_label(tensors: Iterable[Source]) -> str:
    """Return the number of weights in words such as 7.2B, or 8x7.2B for a mixture of experts."""
    shared = each = 0
    experts: set[int] = set()
    for tensor in tensors:
        count = _count([tensor])
        if "_exps." in tensor.name and len(tensor.shape) == 3:
            experts.add(tensor.shape[0])
            each += count // tensor.shape[0]
        else:
            shared += count
    label = _rounded(shared + each)
    return f"{max(experts)}x{label}" if experts else label


def _rounded(count: int) -> str:
    """Write a count with two digits at least."""
    units = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
    unit, suffix = next((pair for pair in units if count > pair[0]), (1e3, "K"))
    scaled = count / unit
    places = max(2 - len(str(round(scaled)).lstrip("0")), 0)
    return f"{scaled:.{places}f}{suffix}"


def parse_name(repository: str, count: int = 0) -> ModelName:
    """Take a name apart as Hugging Face's users put it together.

    count: the model's weights; a size in the name that is far from them is no size but a context length.
    """
    organization, _, full = repository.rpartition("/")
    if " " in full:
        return ModelName(full, organization)
    kinds: dict[str, list[str]] = {kind: [] for kind in ("basename", "size", "finetune", "version")}
    at_start = True
    parts = [part for part in full.split("-") if part]
    for index, part in enumerate(parts):
        kind = _kind_of(part, index, count)
        if at_start and (kind == "version" and parts[index + 1 :]):
            kind = "basename"
        elif not kind:
            kind = "basename" if at_start and part[0].isalpha() else "finetune"
        at_start = at_start and kind == "basename"
        if kind in kinds:
            kinds[kind].append(_size(part) if kind == "size" else part)
    if not (kinds["size"] or kinds["finetune"] or kinds["version"]):
        kinds["basename"] = []  # one word says nothing of its role
    if any(char.isdecimal() for text in kinds["size"] for char in text):
        kinds["size"] = [text for text in kinds["size"] if not text.isalpha()]
    joined = {kind: "-".join(dict.fromkeys(texts)) for kind, texts in kinds.items()}
    return ModelName(full, organization, **joined)


def _kind_of(part: str, index: int, count: int) -> str:
    if _VERSION.fullmatch(part):
        return "version"
    if _PRECISION.fullmatch(part):
        return "precision"
    if index and _SIZE.fullmatch(part):
        number = re.fullmatch(r"(\d+(?:[._]\d+)?)([kmbt])", part.lower())
        if number and count:
            weights = float(number[1].replace("_", ".")) * 1000.0 ** (1 + "kmbt".index(number[2]))
            if abs(weights - count) > 7 * count / 8:
                return "finetune"
        return "size"
    return ""


def _size(part: str) -> str:
    number = part[-1] in "kmbt" and part[-2:-1].isdecimal()
    return part.replace("_", ".")[:-1] + part[-1].upper() if number else part.replace("_", ".")


def _repository(folder: Path, config: Mapping[str, object]) -> str:
    """Return the model's name: as its configuration says, as the hub's cache says, or the folder's."""
    named = config.get("_name_or_path")
    if (
        isinstance(named, str)
        and len(named) > 0
        and named.count("/") <= 1
        and not named.startswith((".", "/"))
    ):
        return named
    folder = folder.resolve()
    for part in (folder, *folder.parents):
        cached = _SNAPSHOT.fullmatch(part.name)
        if cached:
            return f"{cached[1]}/{cached[2]}"
    return folder.name or "model"


def _origins(kind: str, repositories: list[str]) -> dict[str, object]:
    """Return the keys of the models or data that this model was made from."""
    keys: dict[str, object] = {}
    for index, repository in enumerate(repositories):
        name = parse_name(repository.removeprefix(_HUB))
        keys[f"{kind}.{index}.name"] = name.title
        if name.version:
            keys[f"{kind}.{index}.version"] = name.version
        if name.organization:
            keys[f"{kind}.{index}.organization"] = _title(name.organization)
            keys[f"{kind}.{index}.repo_url"] = f"{_HUB}{name.organization}/{name.full}"
    return {f"{kind}.count": len(repositories), **keys} if repositories else {}


def read_card(folder: Path) -> dict[str, object]:
    """Return the header of a folder's README.md: texts and lists of texts; {} where there is none.

    Only the plain lines of its YAML are read; what is nested deeper says nothing that GGUF has a key for.
    """
    try:
        lines = (folder / "README.md").read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    if not lines or lines[0].strip() != "---":
        return {}
    card: dict[str, object] = {}
    items: list[str] = []
    for line in lines[1:]:
        if line.strip() == "---":
            return card
        entry = _LINE.fullmatch(line.rstrip())
        if entry:
            value = entry[2].strip()
            items = []
            if value.startswith("["):
                items = [_unquoted(item) for item in value.strip("[]").split(",") if item.strip()]
            card[entry[1]] = _unquoted(value) if value and not value.startswith("[") else items
        elif (item := re.fullmatch(r"\s*-\s+([^:]+|.*://.*)", line.rstrip())) is not None:
            items.append(_unquoted(item[1]))
    return {}


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _count(tensors: Iterable[Source]) -> int:
    total = 0
    for tensor in tensors:
        count = 1
        for size in tensor.shape:
            count *= size
        total += count
    return total


def _title(text: str) -> str:
    return ModelName(text).title


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[str]:
    return [value] if isinstance(value, str) and value else value if isinstance(value, list) else []
