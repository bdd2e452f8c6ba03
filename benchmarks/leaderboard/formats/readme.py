"""The leaderboard in a README: Markdown between two markers, and a figure beside it."""

from collections.abc import Sequence
from pathlib import Path

from backbones.base.errors import PreflightError, UserError
from backbones.base.files import write_atomically
from benchmarks.leaderboard.formats.figure import draw
from benchmarks.leaderboard.formats.render import to_markdown
from benchmarks.leaderboard.shown import ShownTable

BEGIN, END = "<!-- leaderboard: begin -->", "<!-- leaderboard: end -->"
# Beside the README.
FIGURE = Path("docs", "leaderboard.svg")


def write_section(path: Path, tables: Sequence[ShownTable]) -> None:
    """Write tables between the markers of a Markdown file, and their figure.

    The same tables make the same bytes, so that a file which is up to date stays as it is.

    Args:
        path: The file.
        tables: What to show.

    Raises:
        UserError: The file has no markers, or there is nothing to show.
        PreflightError: It cannot be read or written.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PreflightError(f"--readme {path} cannot be read: {error}.") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"--readme {path}: write {BEGIN} and {END} where the leaderboard belongs.")
    if not tables:
        raise UserError("--readme: there is no row to show.")
    section = to_markdown(tables).strip()
    picture = draw(tables)
    if picture is not None:
        _write(path.parent / FIGURE, picture)
        section = f"![{_alternative(tables)}]({FIGURE.as_posix()})\n\n{section}"
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    _write(path, f"{before}{BEGIN}\n\n{section}\n\n{END}{after}".encode())


def _alternative(tables: Sequence[ShownTable]) -> str:
    """Return what a reader hears in place of the figure."""
    headlines = dict.fromkeys(s.table.headline for s in tables if s.table.headline)
    return f"{', '.join(headlines)} of every entry, with intervals; the numbers are in the tables"


def _write(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return

    write_atomically(path, content)
