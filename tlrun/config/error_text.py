"""Mistakes in settings as lines for people: the full key, what must be there, what was found, what may be meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tlrun.config import Settings

MISSING = "???"
"""How YAML says that a value must be given."""

_MUST_BE = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a group of settings",
    "model_type": "a group of settings",
    "model_attributes_type": "a group of settings",
    "none_required": "null",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
"""pydantic's kinds of error -> what the value must be."""

_BOUNDS = (("gt", "above {:g}"), ("ge", "of at least {:g}"), ("lt", "below {:g}"), ("le", "of at most {:g}"))
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null"}


def error_lines(
    error: ValidationError, kind: type[Settings], values: Mapping[str, Any], key: str, *, leave_out: AbstractSet[str]
) -> list[str]:
    """One line for each setting of the node `key` that pydantic refuses, but those under the names in leave_out."""
    texts: dict[str, list[str]] = {}
    for detail in error.errors():
        first = str(detail["loc"][0]) if detail["loc"] else ""
        if first not in leave_out:
            where = ".".join(part for part in (key, *_place(detail, values)) if part)
            text = _union_text(kind, first, detail) or _text(detail, kind)
            texts.setdefault(where, []).append(text)
    return [f"{where}: {', or '.join(dict.fromkeys(found))}" for where, found in texts.items()]


def shown(value: Any) -> str:
    """A value as the user would write it, short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a group of settings"
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`did you mean dann?`, or nothing where no choice is near."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.65)
    return f"did you mean {near[0]}?" if near else ""


def unknown(word: str, choices: Iterable[str], *, kind: str = "choices") -> str:
    """What to put behind an unknown word: `; did you mean dann? (choices: dann, mmd)`, as far as there is any."""
    listed = list(choices)
    near = did_you_mean(word, listed)
    return (f"; {near}" if near else "") + (f" ({kind}: {', '.join(listed)})" if listed else "")


def _place(detail: ErrorDetails, values: Any) -> list[str]:
    """The keys and list positions of an error; what pydantic adds to name the branch of a union is no key."""
    place = []
    for number, part in enumerate(detail["loc"]):
        last_of_missing = detail["type"] == "missing" and number == len(detail["loc"]) - 1
        in_list = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if in_list or (isinstance(values, Mapping) and part in values):
            values = values[part]
        elif not last_of_missing:
            continue
        place.append(str(part))
    return place


def _union_text(kind: type[Settings], name: str, detail: ErrorDetails) -> str | None:
    """For a setting that is one of several types: all that is allowed, since pydantic tells of each type apart."""
    field = next((field for key, field in kind.model_fields.items() if name in (key, field.alias)), None)
    if field is None or detail["type"] == "missing" or detail["input"] == MISSING:
        return None
    branches = [each for each in get_args(field.annotation) if each is not NoneType]
    if get_origin(field.annotation) not in (Union, UnionType) or len(branches) < 2:
        return None
    return f"must be {_allowed(field.annotation)}, got {shown(detail['input'])}"


def _text(detail: ErrorDetails, kind: type[Settings]) -> str:
    error, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if error == "missing":
        return "missing"
    if error == "extra_forbidden":
        names = [field.alias or name for name, field in kind.model_fields.items()]
        return f"unknown key{unknown(str(detail['loc'][-1]), names, kind='allowed')}"
    if isinstance(given, str) and given == MISSING:
        return "must be given"
    if error == "literal_error":
        expected = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return f"must be one of {expected}, got {shown(given)}"
    if error == "value_error":
        return str(context["error"])
    if error in _MUST_BE:
        return f"must be {_MUST_BE[error].format(**context)}, got {shown(given)}"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, got {shown(given)}"


def _allowed(annotation: Any) -> str:
    """What a type allows, in words: `none, all or a whole number of at least 1`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [each for extra in arguments[1:] for each in getattr(extra, "metadata", [extra])]
        found = [text.format(getattr(each, name)) for each in bounds for name, text in _BOUNDS if hasattr(each, name)]
        return " ".join((_allowed(arguments[0]), " and ".join(found))).strip()
    if origin is Literal:
        return _either(str(each) for each in arguments)
    if origin in (Union, UnionType):
        return _either(text for each in arguments for text in _words(each))
    return _KINDS.get(annotation, "a list" if origin in (list, tuple) else str(annotation))


def _words(annotation: Any) -> list[str]:
    return [str(each) for each in get_args(annotation)] if get_origin(annotation) is Literal else [_allowed(annotation)]


def _either(texts: Iterable[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} or {last}" if first else last
