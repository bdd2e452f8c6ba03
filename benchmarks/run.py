"""Start the command line from a checkout, from any folder, installed or not."""

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    # Python puts this file's folder first; from there `import data` would find benchmarks/data.
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(p for p in sys.path if Path(p or ".").resolve() != here)]
    raise SystemExit(import_module("benchmarks.cli").main())
