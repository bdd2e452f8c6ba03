"""``run.py export FILE --format mae --to OUT``: our weights for others' code."""

from backbones.base.errors import UserError
from benchmarks import output
from benchmarks.options import ExportOptions


def main(options: ExportOptions) -> int:
    """Run the command.

    Raises:
        UserError: Layout and weights do not go together, or a file cannot be read or written.
    """
    if not options.source.is_file():
        raise UserError(f"There is no file {options.source}.")
    # torch is imported only here, so that a mistyped name is reported at once.
    from pretrain.objective_file import export

    sentence = export(options.source, options.layout, options.out, options.plugins)
    if options.json:
        output.document({"written": str(options.out), "layout": options.layout})
    else:
        output.line(output.clean(sentence))
    return 0
