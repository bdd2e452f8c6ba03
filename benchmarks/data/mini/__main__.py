"""One helper process of ``generate``: FOLDER RANK NUM_PROCESSES."""

import sys
from pathlib import Path

from benchmarks.data.mini.generate import write_part

write_part(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
