"""Options, declared once by subject: a class of ``Options`` has a field for each option, and a command takes such classes.

``command`` turns a function that takes classes of options into one that Typer reads. A command's own options are in its file.
"""

from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, cleandoc, signature
from typing import Any, get_args, get_type_hints

import typer

from mpvit.errors import UsageError
from mpvit_cli.output import Terminal


class Options:
    """Options of one subject, by the names of the fields: the annotation declares an option, the value is its default."""

    def __init__(self, context: typer.Context, values: Mapping[str, Any]) -> None:
        """Keep the values, then check them."""
        self.__dict__.update(values)
        self._context = context
        self.check()

    def check(self) -> None:
        """Raise ``UsageError`` for values that are wrong before any work is done."""

    def given(self, name: str) -> bool:
        """Tell whether an option is on the command line. A default or the environment gives way to another option."""
        return self._source(name) == "COMMANDLINE"

    def chosen(self, name: str) -> bool:
        """Tell whether an option is on the command line or in the environment, so that its value is not the default."""
        return self._source(name) in ("COMMANDLINE", "ENVIRONMENT")

    @classmethod
    def flag(cls, name: str) -> str:
        """Return the option of the field ``name`` as a user types it."""
        declared = [flag for part in get_args(_fields(cls)[name]) for flag in (getattr(part, "param_decls", None) or ())]
        first = next(
            (each for part in get_args(_fields(cls)[name]) if isinstance(each := getattr(part, "default", None), str)), ""
        )
        return first or next(iter(declared), f"--{name.replace('_', '-')}")

    def _source(self, name: str) -> str:
        source = self._context.get_parameter_source(name)
        return source.name if source else ""


def option(
    help_text: str,
    *names: str,
    metavar: str | None = None,
    choices: Iterable[str] = (),
    parser: Callable[[Any], Any] | None = None,
    complete: Callable[[str], list[str]] | None = None,
    env: str | None = None,
    default: str = "",
) -> Any:  # noqa: ANN401 - what Typer returns
    """Return the declaration of an option.

    ``choices`` are its values, which are the metavar unless one is given, and are completed. ``default`` describes what happens
    without the option where no default value can say it.
    """
    known = list(choices)
    return typer.Option(
        *names,
        metavar=metavar or ("|".join(known) if known else None),
        help=f"{help_text} (default: {default})" if default else help_text,
        parser=parser,
        autocompletion=complete or (completion(known) if known else None),
        envvar=env,
    )


def argument(help_text: str, *, metavar: str, choices: Iterable[str] = ()) -> Any:  # noqa: ANN401 - what Typer returns
    """Return the declaration of a positional argument."""
    known = list(choices)
    return typer.Argument(
        metavar=metavar, help=help_text, autocompletion=completion(known) if known else None, show_default=False
    )


def completion(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a shell completion that offers the names that start as typed."""
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def conflict(first: str, second: str, hint: str = "") -> UsageError:
    """Return the error for two options that exclude each other."""
    return UsageError(f"{first} with {second}: choose one of them", hint=hint)


def requires(first: str, second: str, hint: str = "") -> UsageError:
    """Return the error for an option that needs another one."""
    return UsageError(f"{first}: needs {second}", hint=hint or f"add {second}")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Return ``function`` for Typer: each class of options among its parameters is replaced by its fields.

    A parameter of the class ``Terminal`` gets the terminal; other parameters stay options or arguments.
    """
    groups: dict[str, type[Options]] = {}
    flat = {"context": Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)}
    terminal = ""
    hints = get_type_hints(function, include_extras=True)
    for parameter in signature(function).parameters.values():
        hint = hints[parameter.name]
        if hint is Terminal:
            terminal = parameter.name
        elif isinstance(hint, type) and issubclass(hint, Options):
            groups[parameter.name] = hint
            for name, annotation in _fields(hint).items():
                default = getattr(hint, name, Parameter.empty)
                flat[name] = Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        else:
            flat[parameter.name] = parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint)

    def run(context: typer.Context, **values: Any) -> None:  # noqa: ANN401 - the values of the options
        arguments = {
            name: group(context, {field: values.pop(field) for field in _fields(group)}) for name, group in groups.items()
        }
        function(**({terminal: context.obj} if terminal else {}), **arguments, **values)

    run.__signature__ = signature(function).replace(parameters=list(flat.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in flat.items()} | {"return": None}
    run.__name__, run.__doc__ = function.__name__, _unwrapped(function.__doc__ or "")
    return run


def _unwrapped(text: str) -> str:
    """Return a help text with each paragraph in one line, which the terminal wraps; indented lines stay as they are."""
    paragraphs = [part.split("\n") for part in cleandoc(text).split("\n\n")]
    joined = ["\n".join(lines) if lines[-1].startswith(" ") else " ".join(lines) for lines in paragraphs]
    return "\n\n".join(joined)


def _fields(group: type[Options]) -> dict[str, Any]:
    """Return the annotation of each option of a class, with those that it inherits first."""
    return get_type_hints(group, include_extras=True)
