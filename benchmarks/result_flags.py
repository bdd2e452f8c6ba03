"""What may be typed behind the commands about results."""

import argparse
from pathlib import Path


def add_leaderboard(board: argparse.ArgumentParser) -> None:
    """Add the flags of ``leaderboard``."""
    board.add_argument(
        "--format",
        choices=("table", "markdown", "csv", "latex", "json"),
        default="table",
        help="default: table",
    )
    board.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write them as one page that opens from disk instead of printing them",
    )
    board.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="write them, with a figure, between the two markers of a Markdown file",
    )
    _add_choice(board)
    _add_gate(board)
    add_anonymous(board)


def _add_choice(board: argparse.ArgumentParser) -> None:
    board.add_argument(
        "--filter",
        default="",
        metavar="EXPR",
        dest="where",
        help="only rows of which it is true: 'seeds >= 3 and backbone ~ vit'",
    )
    board.add_argument(
        "--sort",
        type=_names,
        default=(),
        metavar="A,B",
        dest="order",
        help="metrics best first, all else upwards; NAME:up and NAME:down say otherwise",
    )
    board.add_argument(
        "--columns", type=_names, default=(), metavar="A,B", help="these and in this order"
    )
    board.add_argument(
        "--published", action="store_true", help="also published rows that nobody measured beside"
    )


def _add_gate(board: argparse.ArgumentParser) -> None:
    board.add_argument(
        "--fail-if",
        default="",
        metavar="EXPR",
        help="end with exit code 6 where it is true of a row: 'APbox < baseline - 0.3'",
    )
    board.add_argument(
        "--baseline", default="", metavar="ENTRY|DIR", help="an entry, or another folder of runs"
    )


def add_anonymous(command: argparse.ArgumentParser) -> None:
    """Add ``--anonymous``."""
    command.add_argument("--anonymous", action="store_true", help="without hosts, users and paths")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; separate names by commas")
    return names
