"""See ``tests.gpu.stand_in``."""

import argparse
import os
import sys

import torch

from tests.gpu.stand_in.build import built, environment

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.stand_in")
    parser.add_argument("--gpus", type=int, default=1, help="number of GPUs (default: 1)")
    parser.add_argument("--gib", type=int, default=80, help="memory of each in GiB (default: 80)")
    parser.add_argument("--if-needed", action="store_true", help="only where there is no GPU")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.if_needed and torch.cuda.is_available():
        os.execvp(given.command[0], given.command)
    folder, why_not = built()
    if folder is None:
        sys.exit(f"The stand-in cannot be built: {why_not}.")
    os.execvpe(given.command[0], given.command, environment(folder, given.gpus, given.gib))
