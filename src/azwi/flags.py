"""Flags of the three servers, as the Go reference takes them.

One or two dashes, `--name=value` or `--name value`; a boolean flag stands alone or has `=true` or `=false`. Source: the
usage section of Go's `flag` package. Values stay text here: a program's settings parse them, and report every problem
at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from azwi.errors import FlagError

if TYPE_CHECKING:
    from collections.abc import Sequence

# What Go's strconv.ParseBool takes.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class Flag(NamedTuple):
    """One flag: its name without dashes, its default as text, one sentence of help.

    A named tuple and not a dataclass, for the programs that run for a moment in each Pod.
    """

    name: str
    default: str
    help: str
    boolean: bool = False


def parse_flags(program: str, specs: Sequence[Flag], argv: Sequence[str]) -> dict[str, str]:
    """Every flag's value as text, booleans as `true` or `false`; the last one given wins.

    `-h` and `--help` print the usage and end the program with 0.

    Raises:
        FlagError: A flag is unknown or lacks its value, a boolean is none, or an argument is no flag.
    """
    known = {spec.name: spec for spec in specs}
    values = {spec.name: spec.default for spec in specs}
    hint = f"{program} --help lists the flags"
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or argument in ("-", "--") or argument.startswith("---"):
            raise FlagError(f"unexpected argument {argument!r}", hint=hint)
        if name in ("h", "help") and name not in known:
            print_usage(program, specs)
            raise SystemExit(0)
        spec = known.get(name)
        if spec is None:
            raise FlagError(f"unknown flag --{name}", hint=hint)
        if spec.boolean:
            values[name] = _boolean(name, value if equals else "true")
        elif equals:
            values[name] = value
        elif rest:
            values[name] = rest.pop(0)
        else:
            raise FlagError(f"flag --{name} needs a value", hint=f"write --{name}=VALUE")
    return values


def _boolean(name: str, value: str) -> str:
    if value in _TRUE:
        return "true"
    if value in _FALSE:
        return "false"
    raise FlagError(f"flag --{name}: {value!r} is no boolean", hint="write true or false")


def print_usage(program: str, specs: Sequence[Flag]) -> None:
    """Print the program's flags with defaults and help on stdout."""
    from textwrap import fill  # noqa: PLC0415 - needed here only

    lines = [f"Usage: {program} [flags]", ""]
    for spec in sorted(specs, key=lambda spec: spec.name):
        lines.append(f"  --{spec.name}" + ("" if spec.boolean else f"={spec.default or 'VALUE'}"))
        lines.append(fill(spec.help, 100, initial_indent="        ", subsequent_indent="        "))
    sys.stdout.write("\n".join(lines) + "\n")
