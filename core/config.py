"""Typed configuration: sections that refuse unknown keys and name the nearest; one clear error for the rest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from edgedl.core.errors import ConfigError


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values do not change after checking."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: object) -> object:
        if isinstance(data, Mapping):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            for key in cast(Mapping[object, object], data):
                if key not in known:
                    raise sentence(unknown(str(key), known))
        return cast(object, data)


SENTENCE = "sentence"


def sentence(message: str) -> PydanticCustomError:
    """What a validator raises when its message says it all, without "required … received …"."""
    return PydanticCustomError(SENTENCE, "{message}", {"message": message})


def unknown(key: str, known: set[str], *, what: str = "key") -> str:
    """One sentence about a key (or another word) nobody knows, with the nearest known one."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(known))}"
    return f"unknown {what} '{key}' ({hint})"


S = TypeVar("S")


def _under_root(path: Path, info: ValidationInfo) -> Path:
    context = cast(dict[str, Path | None], info.context or {})
    root = context.get("root")
    if "\0" in str(path):
        raise sentence("a path cannot hold the character NUL")
    try:
        path = path.expanduser()
    except RuntimeError as error:  # ~nobody
        raise sentence(f"{path}: {error}") from None
    return (root / path).absolute() if root is not None else path.absolute()


InputPath: TypeAlias = Annotated[Path, AfterValidator(_under_root)]
"""A path in a recipe: relative to the recipe's folder (`root` of `check`), or to the current one."""


def check(kind: type[S] | Any, data: object, *, source: str, root: Path | None = None) -> S:
    """`data` as `kind`. Raises ConfigError naming source, key, what was required and what was received."""
    try:
        return TypeAdapter[S](kind).validate_python(data, context={"root": root})
    except ValidationError as error:
        raise _config_error(error, data, source) from None


def _config_error(error: ValidationError, data: object, source: str) -> ConfigError:
    # The last error of a union is the one of the alternative that got furthest.
    details = max(error.errors(), key=lambda one: (one["type"] == SENTENCE, len(one["loc"])))
    where = ".".join(_path(details, data))
    prefix = f"{source}: {where}: " if where else f"{source}: "
    if details["type"] == SENTENCE:
        return ConfigError(prefix + details["msg"])
    if details["type"] == "union_tag_invalid":
        context = details.get("ctx", {})
        key = str(context["discriminator"]).strip("'")
        known = {tag.strip().strip("'") for tag in str(context["expected_tags"]).split(",")}
        return ConfigError(prefix + unknown(str(context["tag"]), known, what=key))
    if details["type"] == "union_tag_not_found":
        key = str(details.get("ctx", {})["discriminator"]).strip("'")
        return ConfigError(f"{prefix}the key '{key}' is required and absent")
    if details["type"] == "missing":
        return ConfigError(f"{prefix}this key is required and absent")
    received = cast(object, details["input"])
    message = _REQUIRED.get(details["type"], details["msg"])
    shown = repr(received) if isinstance(received, (str, int, float, bool)) else _kind(received)
    return ConfigError(prefix.removesuffix(": "), required=message[0].lower() + message[1:], received=shown)


_REQUIRED = {
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "dict_type": "keys and values",
    "tuple_type": "a list",
    "string_type": "text",
}
"""What pydantic says of Python, in YAML's words."""


def _kind(received: object) -> str:
    if received is None:
        return "nothing (null)"
    if isinstance(received, Mapping):
        return "keys and values"
    return "a list" if isinstance(received, (list, tuple)) else type(received).__name__


def _path(details: ErrorDetails, data: object) -> list[str]:
    """The location as a person would write it: pydantic also names the members of unions, which no file holds."""
    found: list[str] = []
    current = data
    for part in details["loc"]:
        if isinstance(current, Mapping) and part in current:
            current = cast(Mapping[object, object], current)[part]
        elif isinstance(current, (list, tuple)) and isinstance(part, int):
            current = cast(Sequence[object], current)[part]
        elif not (details["type"] == "missing" and part == details["loc"][-1]):
            continue
        found.append(str(part))
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping. Raises ConfigError, with the line, when it does not."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        raise ConfigError(
            f"no recipe at {path}",
            advice=f"Did you mean {path.parent / near[0]}?" if near else "`edgedl init` writes one",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", required="a YAML text file", received=str(error)) from None
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """YAML text that holds one mapping. Raises ConfigError, with the line, when it does not."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where} is not YAML", received=str(getattr(error, "problem", error))) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{source} cannot be used", required="keys and values", received=_kind(data))
    try:
        return _plain(cast(dict[object, object], data))
    except RecursionError:
        raise ConfigError(f"{source} refers to itself", required="no alias (*) inside its own anchor (&)") from None


def apply_settings(data: Mapping[str, Any], settings: list[str]) -> dict[str, Any]:
    """`data` with every `a.b=value` of the command line's --set put in; values are YAML."""
    result = cast(dict[str, Any], _plain(data))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise ConfigError("--set cannot be read", required="key.key=value", received=repr(setting))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {path}: the value is not YAML", received=repr(text)) from None
        target: Any = result
        *parents, last = path.split(".")
        for parent in parents:
            if isinstance(target, list):
                target = _item(cast(list[Any], target), parent, path)
            else:
                inner = target.get(parent)
                if not isinstance(inner, (dict, list)):
                    # `schedule: cosine` becomes a mapping when one of its keys is set
                    inner = {} if inner is None else {"name": inner}
                    target[parent] = inner
                target = cast(Any, inner)
        if isinstance(target, list):
            target[_index(cast(list[Any], target), last, path)] = value
        else:
            target[last] = value
    return result


def _index(items: list[Any], text: str, path: str) -> int:
    if not text.isdecimal() or int(text) >= len(items):
        raise ConfigError(f"--set {path}: no such entry", required=f"a position below {len(items)}", received=text)
    return int(text)


def _item(items: list[Any], text: str, path: str) -> Any:
    index = _index(items, text, path)
    if not isinstance(items[index], (dict, list)):
        items[index] = {"method": items[index]}
    return items[index]


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in cast(Mapping[object, object], value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in cast(list[object], value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
