"""Closed, typed settings: from a TOML file, then `--set`, then flags; an unknown key names the nearest real one."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from steper_agent.errors import ConfigError
from steper_agent.records import Record


class Config(Record):
    """Settings of one verb. Field defaults and descriptions are its documentation and its `--help`."""

    @classmethod
    def load(cls, section: str, *, file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Self:
        """Settings from `[section]` of a TOML file, overridden key by key.

        Raises:
            ConfigError: the file is missing or no TOML, a key is unknown, a value is of the wrong type.
        """
        in_file, on_line = f"{file} [{section}]", f"{section}, command line"
        given = cls._fields(_read(file, section) if file else {}, in_file)
        asked = cls._fields(overrides or {}, on_line)
        return cls._validated({**given, **asked}, lambda name: in_file if name in given else on_line)

    @classmethod
    def of(cls, table: Mapping[str, Any], where: str) -> Self:
        """Settings from a table that was read already.

        Raises:
            ConfigError: a key is unknown, a value is of the wrong type.
        """
        return cls._validated(cls._fields(table, where), lambda _name: where)

    @classmethod
    def _validated(cls, given: Mapping[str, Any], where: Callable[[str], str]) -> Self:
        """`where` says from which place a setting came."""
        try:
            return cls.model_validate(given)
        except ValidationError as bad:
            first = bad.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            key = ".".join([name.rstrip("_"), *(str(part) for part in first["loc"][1:])])
            raise ConfigError(
                f"`{key}`: {first['msg']}" if key else first["msg"], where=where(name),
                fix=f"give {key or 'the settings'} as described by --help",
            ) from bad  # fmt: skip

    @classmethod
    def _fields(cls, table: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {cls._field(key, where): value for key, value in table.items()}

    @classmethod
    def _field(cls, key: str, where: str) -> str:
        """The field a key means: its own name, without the underscore that keeps a field off a Python name."""
        names = {name.rstrip("_"): name for name in cls.model_fields}
        if key.rstrip("_") in names:
            return names[key.rstrip("_")]
        near = get_close_matches(key, names, n=1)
        fix = f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(names)}"
        raise ConfigError(f"unknown key `{key}`", where=where, fix=fix)


def parted(given: Any) -> Any:
    """The words of a setting that may be parted by commas, one value or several. What is no text is left to its type to refuse."""
    if not isinstance(given, str | list | tuple):
        return given
    return [word.strip() for one in ([given] if isinstance(given, str) else given) for word in str(one).split(",") if word.strip()]


C = TypeVar("C", bound="Config")


def command_line(
    cls: type[C], section: str, description: str, argv: Sequence[str] | None, *, epilog: str = ""
) -> C:
    """Read one verb's settings: a flag per field, `--config FILE`, `--set KEY=VALUE`. Exits with 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog=f"python -m training.{section}", usage="%(prog)s --SETTING VALUE … [--config FILE] [--set KEY=VALUE …]",
        description=description, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"TOML file; its [{section}] table is read")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting")
    for name, field in cls.model_fields.items():
        help = f"{field.description or ''} ({_default(field)})".replace("%", "%%")
        parser.add_argument(_flag(name), dest=name, default=argparse.SUPPRESS, metavar="VALUE", help=help,
                            **_shape(field.annotation))
    known, left = parser.parse_known_args(argv)
    for word in left:
        if word.startswith("--"):
            cls._field(word[2:].split("=")[0].replace("-", "_"), f"{section}, command line")
        parser.error(f"no setting takes `{word}`")
    given = vars(known)
    file, sets = given.pop("config"), given.pop("set")
    return cls.load(section, file=file, overrides={**_parse_sets(cls, sets), **given})


def _flag(name: str) -> str:
    return "--" + name.rstrip("_").replace("_", "-")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "optional" if value in (None, "", ()) else f"default: {value}"


def _shape(annotation: Any) -> dict[str, Any]:
    """Lists take several values, also flag by flag; `--flag` alone means true."""
    if _is_list(annotation):
        return {"nargs": "+", "action": "extend"}
    return {"nargs": "?", "const": "true"} if annotation is bool else {}


def _is_list(annotation: Any) -> bool:
    return str(annotation).startswith(("tuple[", "list["))


def _parse_sets(cls: type[Config], sets: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` each; the values of a list are parted by commas."""
    given: dict[str, Any] = {}
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"`{item}` is not KEY=VALUE", where="--set", fix="write --set key=value")
        field = cls._field(key.strip(), "--set")
        given[field] = value.split(",") if _is_list(cls.model_fields[field].annotation) else value
    return given


def read_tables(file: Path) -> dict[str, Any]:
    """Everything in a TOML file.

    Raises:
        ConfigError: the file is missing or no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as bad:
        raise ConfigError(f"cannot read the settings: {bad.strerror}", where=file, fix="check --config") from bad
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as bad:
        raise ConfigError(f"not TOML: {bad}", where=file, fix="mend the file at that place") from bad


def _read(file: Path, section: str) -> dict[str, Any]:
    tables = read_tables(file)
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"`{key}` stands in no table", where=file, fix=f"write [{section}] above it")
    if section not in tables:
        near = get_close_matches(section, tables, n=1)
        fix = f"did you mean [{section}] by [{near[0]}]?" if near else f"write [{section}] and its keys below it"
        raise ConfigError(f"there is no table [{section}]", where=file, fix=fix)
    return dict(tables[section])
