"""What ``run.py cluster test`` runs on the cluster, in place of a run.

Every process writes what it finds into the submission's folder, where the tester looks: itself a
proof that the folder is shared. Called with an exit code behind, it is the end of the batch script.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from backbones.base.files import write_json_atomically
from benchmarks.slurm.job import REQUEUE, describe_group
from benchmarks.work.interrupt import Interrupt

_SIGNAL_PATIENCE_SECONDS = 120.0
_LAST_PATIENCE_SECONDS = 20.0


def main(arguments: list[str]) -> int:
    """Report, wait for the signal to save, and ask to be requeued."""
    interrupt = Interrupt(on_second=lambda: None, also=(signal.SIGUSR2,))
    interrupt.install()
    folder = Path(arguments[0])
    if len(arguments) > 2:
        from benchmarks.slurm.requeue import put_back

        if int(arguments[2]) == REQUEUE:
            put_back()
        return 0
    rank = os.environ.get("SLURM_PROCID", "0")
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        _write(folder / f"again-{rank}.json", {})
        return 0
    describe_group()
    _write(folder / f"start-{rank}.json", {"host": socket.gethostname(), **_devices()})
    end = time.monotonic() + _SIGNAL_PATIENCE_SECONDS
    while not interrupt.requested and time.monotonic() < end:
        time.sleep(0.1)
    got = interrupt.signal
    _write(folder / f"signal-{rank}.json", {"signal": got.name if got else ""})
    _leave_together(folder, REQUEUE if got == signal.SIGUSR2 else 1)


def _leave_together(folder: Path, code: int) -> NoReturn:
    """End this process once all processes have written which signal they got.

    ``srun --kill-on-bad-exit`` sends SIGTERM to the other processes as soon as the first one has
    left, and Python puts back the signal's default action while it shuts down. A process that is
    ended then hides the exit code that asks for the requeue, so Python's shutdown is skipped.
    """
    count = int(os.environ.get("SLURM_NTASKS", "1"))
    end = time.monotonic() + _LAST_PATIENCE_SECONDS
    while len(list(folder.glob("signal-*.json"))) < count and time.monotonic() < end:
        time.sleep(0.1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _devices() -> dict[str, Any]:
    """Return the GPUs that torch sees, and the number of processes that an all-reduce counts."""
    import torch

    from backbones.base.devices import join
    from backbones.base.distributed import leave_process_group, sum_over_ranks

    device = join()
    try:
        total = int(sum_over_ranks(torch.ones(1, device=device)).item())
    finally:
        leave_process_group()
    return {"gpus": torch.cuda.device_count(), "processes": total}


def _write(path: Path, content: Any) -> None:
    write_json_atomically(path, content)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
