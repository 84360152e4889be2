"""Options that JSON writes otherwise than we do, for all dialects: biases, whose tokens are texts there, and stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...errors import InvalidRequest

Encode = Callable[[str], Sequence[int]]

MOST_STOPS = 128
"""Stop strings in one request; each costs time at every character of the answer."""


def read_option(name: str, value: object, where: str) -> object:
    """Return the value of one of our options; `where` is the field that has it. Raises InvalidRequest."""
    if name == "logit_bias":
        return read_bias(value, where)
    return read_stops(value, where) if name == "stop" else value


def read_stops(value: object, where: str) -> list[str]:
    """Return the stop strings of a text or of a list; an empty one stops nothing. Raises InvalidRequest."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest(f"{where} must be a text or a list of texts", field=where)
    if len(texts) > MOST_STOPS:
        raise InvalidRequest(f"{where} takes at most {MOST_STOPS} texts, not {len(texts)}", field=where)
    return [text for text in texts if text]


def read_bias(value: object, where: str, encode: Encode | None = None) -> dict[int, float]:
    """Return biases by token id, of `{token: number}` or `[[token, number], …]`; false bans a token.

    encode: the tokens of what is a text and no token id, as llama.cpp takes it. Raises InvalidRequest.
    """
    if not isinstance(value, Mapping | list):
        raise InvalidRequest(f"{where} must be an object", field=where)
    pairs = value.items() if isinstance(value, Mapping) else value
    found: dict[int, float] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InvalidRequest(f"{where} takes pairs of a token and a number", field=where)
        token, bias = pair
        if bias is True or not isinstance(bias, int | float):
            raise InvalidRequest(f"a bias in {where} must be a number, or false", field=where)
        for one in _tokens(token, where, encode, may_be_id=isinstance(value, Mapping)):
            found[one] = float("-inf") if bias is False else bias
    return found


def _tokens(token: object, where: str, encode: Encode | None, *, may_be_id: bool) -> Sequence[int]:
    """Return the tokens that are meant: JSON's keys are texts, those of digits ids."""
    if isinstance(token, int) and not isinstance(token, bool):
        return [token]
    if isinstance(token, str):
        if may_be_id and token.isascii() and token.isdigit() and len(token) <= 10:
            return [int(token)]
        if encode is not None:
            return encode(token)
    raise InvalidRequest(f"{where} maps token ids to numbers; {str(token)[:60]!r} is none", field=where)
