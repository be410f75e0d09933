"""Makes a command of a function: its parameters are the options, explained by its docstring. Built on cyclopts.

Imports no large library, so that `--help` and a wrong option are answered at once.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin

from cyclopts import App, CycloptsError, Parameter, Token
from pydantic import ByteSize, TypeAdapter, ValidationError

from tasks.errors import UserError
from tasks.ingest import source_names
from tasks.storage.urls import has_secrets

PROGRAM = "music-benchmark"
POSITIONAL = "positional"  # in a parameter's type: its value comes without the option's name
QUIET = "print nothing but errors"
JSON = "print the result as one JSON object on standard output, and everything else on standard error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command reports at its end.

    Args:
        facts: the result for programs, which --json prints.
        show: prints the result for people on standard output.
        code: the exit code.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    show: Callable[[], object] = lambda: None
    code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, called as `music-benchmark NAME` or `python -m flows.MODULE`.

    Args:
        name: its name in `music-benchmark`.
        function: whose parameters are the options; each has an entry in `Args:` of its docstring. The docstring of its
            module says what the command does.
        run: carries the command out, given the options by parameter.
        kept: a sentence for an interrupted command on what it keeps.
        examples: options to copy, shown at the end of the help.
        starts_server: whether it always needs Prefect's server, so that a temporary one starts before anything else.
        has_facts: whether its outcome has facts, so that there is --json.
        flags: options of the command that are no parameters, with their help.
    """

    name: str
    function: Callable[..., Any]
    run: Callable[[dict[str, Any]], Outcome]
    kept: str
    examples: tuple[str, ...]
    starts_server: bool = False
    has_facts: bool = True
    flags: Mapping[str, str] = field(default_factory=dict)

    def app(self, group: str = "") -> App:
        """Returns the parser, whose result is the command with its options.

        Args: group: where `music-benchmark --help` lists the command; without it, the command is called by its module.
        """
        module = sys.modules[self.function.__module__]
        called = f"python -m {module.__spec__.name if module.__spec__ else module.__name__}"
        shown = f"{PROGRAM} {self.name}" if group else called
        app = App(
            name=self.name if group else called,
            group=group or None,
            help=module.__doc__,
            help_format="plaintext",
            help_epilogue="\n".join(["Examples:", *(f"  {shown} {example}".rstrip() for example in self.examples)]),
            version_flags=(),
            default_parameter=Parameter(negative=()),
            group_commands="Options",
            group_parameters="Options",
            result_action="return_value",
        )
        app.default(self._entry())
        return app

    def _entry(self) -> Callable[..., tuple[Command, dict[str, Any]]]:
        """Returns a function for cyclopts: its parameters are the options; it checks them and returns them by name."""
        own = list(signature_of(self.function).parameters.values())
        texts = _texts(self.function.__doc__ or "")
        added = {**self.flags, "quiet": QUIET, **({"json": JSON} if self.has_facts else {})}
        flags = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=bool) for name in added
        ]
        options = [_option(parameter, (texts | added)[parameter.name]) for parameter in [*own, *flags]]
        options.sort(key=lambda option: option.kind)  # what is given without a name comes first
        signature = inspect.Signature(options)

        def entry(*words: Any, **named: Any) -> tuple[Command, dict[str, Any]]:
            given = signature.bind(*words, **named)
            given.apply_defaults()
            return self, _checked(given.arguments, own)

        entry.__signature__ = signature  # type: ignore[attr-defined]
        entry.__annotations__ = {option.name: option.annotation for option in options}
        return entry


def parsed(app: App, words: Sequence[str]) -> tuple[Command, dict[str, Any]] | None:
    """Returns the command of a command line, and its options; None if only help was asked for, which is printed.

    Raises: UserError: an option is wrong.
    """
    try:
        found: tuple[Command, dict[str, Any]] | None = app(words, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        reason = str(error).partition(" Available commands:")[0]
        raise UserError(f"{reason if reason.endswith('?') else reason.rstrip('.') + '.'} See --help.") from error
    return found


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Returns a function's signature with the types of its parameters, without that of its result.

    Others would look up the names of types in a module that does not have them.
    """
    signature = inspect.signature(function)
    names = inspect.unwrap(function).__globals__
    parameters = [
        parameter.replace(annotation=eval(parameter.annotation, names))  # noqa: S307 - the project's own annotations
        if isinstance(parameter.annotation, str)
        else parameter
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def names(kind: Any, tokens: Sequence[Token]) -> list[str]:
    """Parses comma-separated lists."""
    return [part.strip() for token in tokens for part in token.value.split(",") if part.strip()]


def integers(kind: Any, tokens: Sequence[Token]) -> list[int]:
    """Parses comma-separated lists of at least one whole number."""
    return [_whole(part) for part in names(kind, tokens) or [token.value for token in tokens]]


def whole(kind: Any, tokens: Sequence[Token]) -> int:
    """Parses a whole number: 2.5 is none."""
    return _whole(tokens[0].value)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{text}' is no whole number") from None


def size(kind: Any, tokens: Sequence[Token]) -> int:
    """Parses a number of bytes, at least one, such as 20GB, 500MiB or 1000000."""
    try:
        found = int(TypeAdapter(ByteSize).validate_python(tokens[0].value))
    except (ValidationError, OverflowError):
        found = 0
    if found < 1:
        raise ValueError(f"'{tokens[0].value}' is no size such as 20GB, 500MiB or 1000000")
    return found


def known_names(kind: Any) -> list[str]:
    """Returns the names that a type allows, if it allows only some."""

    def within(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema.get("enum", ())
            schema = list(schema.values())
        if isinstance(schema, list):
            for part in schema:
                yield from within(part)

    return list(dict.fromkeys(within(TypeAdapter(kind).json_schema())))


def _option(parameter: inspect.Parameter, text: str) -> inspect.Parameter:
    """Returns a parameter as cyclopts reads it: with its help, and by keyword unless its type is positional."""
    about = list(_metadata(parameter.annotation))
    default = parameter.default
    if default not in (None, "", False, parameter.empty) and "default" not in text:
        shown = next((one.show_default for one in about if isinstance(one, Parameter) and one.show_default), None)
        text = f"{text}; by default {shown(default) if callable(shown) else default}"
    allowed = known_names(parameter.annotation)
    if allowed:
        text = f"{text}. Known: {', '.join(allowed)}"
    plain = _plain(parameter.annotation)
    if int in {plain, *get_args(plain)} and not any(isinstance(one, Parameter) and one.converter for one in about):
        about.append(Parameter(converter=whole, n_tokens=1))
    added = Parameter(
        help=text,
        show_default=False,
        show_choices=False,
        completer=(lambda _: allowed) if allowed else None,
    )
    kind = parameter.POSITIONAL_ONLY if POSITIONAL in about else parameter.KEYWORD_ONLY
    return parameter.replace(kind=kind, annotation=Annotated[plain, *about, added])


def _plain(kind: Any) -> Any:
    """Returns an annotation without metadata: cyclopts would have pydantic check values by it, in pydantic's words."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if type(None) in get_args(kind):
        [kind] = [one for one in get_args(kind) if one is not type(None)]
        return _plain(kind) | None
    return list[_plain(get_args(kind)[0])] if get_origin(kind) is list else kind  # type: ignore[misc]


def _metadata(kind: Any) -> Iterator[Any]:
    """Yields the metadata of an annotation, also of one that may be None."""
    if get_origin(kind) is Annotated:
        inner, *about = get_args(kind)
        yield from _metadata(inner)
        yield from (one for one in about if isinstance(one, Parameter | str))
    elif type(None) in get_args(kind):
        for one in get_args(kind):
            yield from _metadata(one)


def _checked(options: Mapping[str, Any], parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """Returns the options as parameters of a function or a flow.

    Prefect stores the parameters of a flow run, so a source URL with secrets is passed by $MUSIC_SOURCE instead.

    Raises: UserError: the type of a parameter refuses an option, it is not text that Prefect can store, or there is no
        such file.
    """
    found = dict(options)
    for parameter in parameters:
        name = (
            parameter.name.upper()
            if POSITIONAL in _metadata(parameter.annotation)
            else f"--{parameter.name.replace('_', '-')}"
        )
        value = found[parameter.name]
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.encode(errors="ignore") != os.fsencode(text):
                raise UserError(f"{name} {text}: is not text in UTF-8. Give the file, or a link to it, another name.")
        try:
            TypeAdapter(parameter.annotation).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    if "source" in found:
        source_names.check(source_names.default_source(found["source"]), found["max_source_bytes"])
    if found.get("tracks"):
        if source_names.STORED.fullmatch(found["tracks"]):
            raise UserError(f"{found['tracks']}: a snapshot is not read as new tracks. Give the file.")
        source_names.check(found["tracks"], found["max_source_bytes"])
    if found.get("source") and has_secrets(found["source"]):
        os.environ["MUSIC_SOURCE"] = found["source"]
        found["source"] = None
    return found


def _texts(docstring: str) -> dict[str, str]:
    """Returns the text of each parameter in the `Args:` of a docstring, without the full stop."""
    body = re.split(r"\n(?=\S)", inspect.cleandoc(docstring).partition("\nArgs:\n")[2])[0]
    entries = re.findall(r"(?m)^    (\w+): (.*(?:\n {8}.*)*)", body)
    return {name: " ".join(text.split()).removesuffix(".") for name, text in entries}
