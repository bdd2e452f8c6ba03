"""Stand-ins for Slurm's commands: a queue that is a file, with limits, on which nothing runs.

Real daemons are in tests/slurm; here are the answers that they give rarely or slowly.
"""

import os
import sys
from pathlib import Path

_SBATCH = """\
#!{python}
import fcntl, pathlib, re, sys, time
folder = pathlib.Path({folder!r})
text = pathlib.Path(sys.argv[-1]).read_text()
first, last = re.search(r"--array=(\\d+)-(\\d+)", text).groups()
name = re.search(r"--job-name=(\\S+)", text).group(1)
def number(what):
    path = folder / what
    return int(path.read_text()) if path.exists() else 10**6
time.sleep(0.3)
with (folder / "queue").open("a+") as queue:
    fcntl.flock(queue, fcntl.LOCK_EX)
    queue.seek(0)
    lines = queue.read().splitlines()
    count = int(last) + 1
    if int(last) >= number("MaxArraySize"):
        sys.exit("sbatch: error: Batch job submission failed: Invalid job array specification")
    if len(lines) + count > number("MaxSubmitJobs"):
        sys.exit("sbatch: error: AssocMaxSubmitJobLimit\\nsbatch: error: Batch job submission "
                 "failed: Job violates accounting/QOS policy (job submit limit, user's size "
                 "and/or time limits)")
    if len(lines) + count > number("MaxJobCount"):
        sys.exit("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\\n"
                 "sbatch: error: Batch job submission failed: Resource temporarily unavailable")
    job = 1 + max([int(line.split("|")[0]) for line in lines], default=0)
    for index in range(count):
        queue.write(f"{{job}}|{{index}}|PENDING|Priority|{{name}}|0:00\\n")
print("Submitted batch job", job)
"""
_OTHERS = {
    "squeue": 'cat "$QUEUE" 2>/dev/null; exit 0',
    "scontrol": """\
case "$*" in
ping) echo "Slurmctld(primary) at here is UP";;
"show config") size=$(cat "$FOLDER/MaxArraySize" 2>/dev/null || echo 1001)
  echo "MaxArraySize            = $size";;
esac""",
    "srun": "exit 0",
}


class FakeSlurm:
    """Commands in a folder of their own.

    Args:
        folder: For the commands, the queue and the limits.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        tools = folder / "bin"
        tools.mkdir()
        (tools / "sbatch").write_text(_SBATCH.format(python=sys.executable, folder=str(folder)))
        for name, text in _OTHERS.items():
            start = f"#!/bin/sh\nFOLDER='{folder}'\nQUEUE='{folder}/queue'\n"
            (tools / name).write_text(start + text + "\n")
        for path in tools.iterdir():
            path.chmod(0o755)
        self.path = os.pathsep.join([str(tools), os.environ["PATH"]])

    def limit(self, name: str, value: int) -> None:
        """Set MaxArraySize, MaxSubmitJobs or MaxJobCount."""
        (self.folder / name).write_text(str(value))

    def queue(self) -> list[list[str]]:
        """Return the fields of the jobs in the queue: array, index, state, reason, name, time."""
        path = self.folder / "queue"
        return [line.split("|") for line in path.read_text().splitlines()] if path.exists() else []

    def end(self, count: int) -> None:
        """Take the oldest jobs out of the queue."""
        kept = ["|".join(one) + "\n" for one in self.queue()[count:]]
        (self.folder / "queue").write_text("".join(kept))
