"""Makes the options of a command from the signature and the `Args:` of the function that the command calls."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import ByteSize, TypeAdapter, ValidationError


@dataclass(frozen=True, slots=True)
class Option:
    """How a parameter is written on a command line: metadata in the parameter's `Annotated` type.

    Args:
        metavar: what the help calls the value.
        parse: makes the value from text; raises ValueError or argparse.ArgumentTypeError.
        choices: the only values.
        takes_several: the option takes several words.
        is_positional: the value comes without the option's name.
        show: how the help writes the default.
    """

    metavar: str | None = None
    parse: Callable[[str], Any] = str
    choices: tuple[str, ...] | None = None
    takes_several: bool = False
    is_positional: bool = False
    show: Callable[[Any], str] = "{}".format


class Parser(argparse.ArgumentParser):
    """A parser that exits with code 1 and one line on a wrong option, as commands do on any user error."""

    def error(self, message: str) -> NoReturn:
        """Prints the reason and exits."""
        self.exit(1, f"{self.prog}: {message}. See --help.\n")


def parser_of(command: str, description: str | None, function: Callable[..., Any]) -> Parser:
    """Returns a parser with one option for each parameter of a function or a flow, explained by its `Args:`.

    Args:
        command: the module, such as flows.benchmark.
        description: the first lines of the help.
        function: whose parameters all have an entry in `Args:`.
    """
    function = getattr(function, "fn", function)
    parser = Parser(prog=f"python -m {command}", description=description)
    texts = _texts(function.__doc__ or "")
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        _add(parser, parameter, texts[name])
    return parser


def add_warehouse(parser: argparse.ArgumentParser) -> None:
    """Adds --warehouse, for commands whose options are not the parameters of a function."""
    text = "where data is kept, a folder or a URL (s3://bucket/prefix); by default $MUSIC_WAREHOUSE, else ./warehouse"
    parser.add_argument("--warehouse", metavar="DIR_OR_URL", help=text)


def names(text: str) -> list[str]:
    """Parses a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def integers(text: str) -> list[int]:
    """Parses a comma-separated list of at least one whole number."""
    return [int(part) for part in names(text) or [text]]


def size(text: str) -> int:
    """Parses a number of bytes, at least one, such as 20GB, 500MiB or 1000000."""
    try:
        bytes_ = int(TypeAdapter(ByteSize).validate_python(text))
    except (ValidationError, OverflowError):
        bytes_ = 0
    if bytes_ < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no size such as 20GB, 500MiB or 1000000")
    return bytes_


def _add(parser: Parser, parameter: inspect.Parameter, text: str) -> None:
    kind, option = _kind(parameter.annotation)
    flag = "--" + parameter.name.replace("_", "-")
    has_default = parameter.default is not parameter.empty
    if kind is bool:
        parser.add_argument(flag, action="store_true", help=text)
        return
    if has_default and parameter.default not in (None, "") and "default" not in text:
        text = f"{text}; by default {option.show(parameter.default)}"
    given: dict[str, Any] = {"help": text.replace("%", "%%"), "type": option.parse, "choices": option.choices}
    if option.metavar:
        given["metavar"] = option.metavar
    if option.is_positional:
        parser.add_argument(parameter.name, nargs="?" if has_default else None, **given)
        return
    if option.takes_several:
        given["nargs"] = "+"
    default = parameter.default if has_default else None
    parser.add_argument(flag, default=default, required=not has_default, **given)


def _kind(annotation: Any) -> tuple[Any, Option]:
    """The plain type of an annotation, without None, and how a command line gives it."""
    option = None
    while True:
        if get_origin(annotation) in (Union, UnionType):
            [annotation] = [one for one in get_args(annotation) if one is not NoneType]
        elif get_origin(annotation) is Annotated:
            annotation, *about = get_args(annotation)
            option = option or next((one for one in about if isinstance(one, Option)), None)
        else:
            break
    if get_origin(annotation) is Literal:
        return str, option or Option(choices=get_args(annotation))
    return annotation, option or Option(parse=annotation)


def _texts(docstring: str) -> dict[str, str]:
    """Returns the text of each parameter in the `Args:` of a docstring, without the full stop."""
    body = re.split(r"\n(?=\S)", inspect.cleandoc(docstring).partition("\nArgs:\n")[2])[0]
    entries = re.findall(r"(?m)^    (\w+): (.*(?:\n {8}.*)*)", body)
    return {name: " ".join(text.split()).removesuffix(".") for name, text in entries}
