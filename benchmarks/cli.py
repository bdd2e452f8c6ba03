"""The command line: parses what was typed and hands it to a command."""

import argparse
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import NoReturn

from backbones.base.errors import UserError
from benchmarks import habits, output
from benchmarks.flags import add_flags
from benchmarks.options import ALIASES, COMMANDS, CommandOptions

_ABOUT = "Does this pretraining transfer to detection, and at what price?"
_MORE = """\
Flags without a command are those of `run`: run.py --suite coco
Exit codes: 0 done, 1 internal error, 2 usage, 3 some runs failed (the others are kept),
4 data, disk or weights cannot serve, 5 comparison refused or outside the published band,
6 --fail-if came true, 130 interrupted (resumable)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: Command line without the program's name; None takes this process's.
    """
    output.prepare()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except UserError as error:
        output.note(output.clean(str(error)))
        return error.exit_code
    except KeyboardInterrupt:
        output.note("Interrupted.")
        return 130
    except Exception:
        return _internal_error(given)


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    root = _Parser(
        prog="run.py",
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"backbench {_version()}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, options in COMMANDS.items():
        about = _about(options)
        former = [alias for alias, command in ALIASES.items() if command == name]
        add_flags(
            commands.add_parser(
                name, aliases=former, help=about, description=about, allow_abbrev=False
            ),
            options,
        )
    return root


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, like all others of the program."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.prog}: {message}. `{self.prog} --help` explains the options.")


def _dispatch(given: list[str]) -> int:
    if not given:
        output.note(habits.START)
        return UserError.exit_code
    whole = parser()
    if given[0] in ("-h", "--help", "help", "--version"):
        whole.parse_args(["--help" if given[0] == "help" else given[0]])
    name, *words = given if not given[0].startswith("-") else ["run", *given]
    habits.check_command(name, [*COMMANDS, *ALIASES])
    name = ALIASES.get(name, name)
    flags = _flags(whole, name)
    habits.check_flags(name, words, flags)
    found, rest = whole.parse_known_args([name, *words])
    habits.check_rest(name, rest, flags)
    parsed = vars(found)
    del parsed["command"]
    code: int = import_module(f"benchmarks.commands.{name}").main(COMMANDS[name](**parsed))
    return code


def _flags(whole: argparse.ArgumentParser, name: str) -> list[str]:
    """Return the flags of a command, with their dashes."""
    (commands,) = (
        action for action in whole._actions if isinstance(action, argparse._SubParsersAction)
    )
    return list(commands.choices[name]._option_string_actions)


def _version() -> str:
    try:
        return metadata.version("backbench")
    except metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _about(options: type[CommandOptions]) -> str:
    """Return the first line of a docstring the way ``argparse`` writes help."""
    line = (options.__doc__ or "").partition("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]


def _internal_error(given: list[str]) -> int:
    trace = traceback.format_exc()
    with tempfile.NamedTemporaryFile(
        "w", prefix="backbench-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"run.py {shlex.join(given)}\n\n{trace}")
    last = trace.strip().splitlines()[-1]
    output.note(
        f"Internal error: {output.clean(last)[:300]}. This is a mistake in the program, not in "
        f"your command; the trace is in {file.name}."
    )
    return 1
