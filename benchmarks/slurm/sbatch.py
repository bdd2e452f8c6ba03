"""The text of a batch script. Imports neither torch nor submitit, so that it can be shown at once.

What is shown is what is submitted: ``launch`` hands this very text to submitit.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from backbones.base.cores import CORES, WORKERS, threads_of
from backbones.base.errors import UserError
from backbones.base.monitor import GRACE_SECONDS
from backbones.base.wording import quoted
from benchmarks.slurm.cluster import Cluster, RunResources
from benchmarks.slurm.submission import Submission
from benchmarks.store.environment import ROOT, with_tunables
from benchmarks.store.folders import Store
from benchmarks.store.spec import RunRequest
from benchmarks.work.tracking import TRACK

# The signal that says: save and be requeued. NCCL takes USR1 for itself.
_SIGNAL = "USR2"
_MODULES = ("benchmarks.slurm.job", "benchmarks.slurm.requeue")


def check_folder(root: Path) -> None:
    """Refuse a folder of runs that Slurm cannot write logs into under its own name.

    In the name of a log, sbatch replaces "%j" and its like, takes out backslashes, and ends at a
    line feed.

    Raises:
        UserError: The folder's path contains such a character.
    """
    text = str(root.absolute())
    bad = [sign for sign in ("%", "\\") if sign in text]
    if bad or not text.isprintable():
        which = f'"{bad[0]}"' if bad else "a character that cannot be printed"
        raise UserError(
            f"--out {root}: its full path contains {which}, which Slurm replaces in the names of "
            "logs; use a folder without it."
        )


def sbatch_text(
    cluster: Cluster,
    submission: Submission,
    index: int,
    max_parallel: int,
    modules: tuple[str, str] = _MODULES,
) -> str:
    """Return the script of an array.

    Args:
        cluster: Profile of the cluster.
        submission: Submission of the array; job ids that are known become its dependency.
        index: Index of the array in the submission.
        max_parallel: Runs at a time; 0 leaves that to the cluster.
        modules: Module that every process runs, and module that the script ends with.
    """
    array = submission.arrays[index]
    limit = f"%{max_parallel}" if max_parallel else ""
    options = {
        "job-name": array.name,
        "array": f"0-{len(array.runs) - 1}{limit}",
        **_resources(cluster, array.shape),
        "signal": f"{_SIGNAL}@{cluster.signal_seconds}",
        "output": str(submission.log("%A", "%a")),
        "open-mode": "append",
    }
    jobs = [submission.arrays[i].job or f"<job of array {i}>" for i in array.after]
    jobs += array.waits_for
    if jobs:
        # Not afterok: what ended well is decided by records, and a dependent that cannot start
        # says so instead of waiting for ever.
        options["dependency"] = ":".join(["afterany", *jobs])
    lines = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in options.items()]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {text}" for text in cluster.sbatch_args)]
    return "\n".join(["#!/bin/bash", *lines, "", *_body(cluster, submission, index, modules), ""])


def plain_text(store: Store, requests: Sequence[RunRequest], folder: Path) -> str:
    """Return a script that does runs one after the other, for whatever scheduler there is.

    A run that needs another one starts when that one is done. The script ends with exit code 3 if a
    run failed, as the command does.

    Args:
        store: Folder of runs.
        requests: The runs, needed ones first.
        folder: Where the script works.
    """
    planned = {request.spec.run_id for request in requests}
    first = [request for request in requests if request.needs not in planned]
    return "\n".join(
        [
            "#!/bin/bash",
            "set -eu",
            f"cd {shlex.quote(str(folder))}",
            *_environment(None, str(ROOT)),
            "failed=0",
            *(line for request in first for line in _plain(store, request, requests, "")),
            "exit $((failed * 3))",
            "",
        ]
    )


def _plain(
    store: Store, request: RunRequest, requests: Sequence[RunRequest], indent: str
) -> list[str]:
    """Return the lines of a run and of those that need it."""
    spec = request.spec
    folder = store.folder(spec.run_id).path.absolute()
    run = f"{_python('benchmarks.work.worker')} {shlex.quote(str(folder))}"
    about = f"{indent}# {spec.task}: {quoted(request.entry)}, seed {spec.seed}"
    after = [other for other in requests if other.needs == spec.run_id]
    if not after:
        return [about, f"{indent}{run} || failed=1"]
    inner = [line for own in after for line in _plain(store, own, requests, f"{indent}  ")]
    end = [f"{indent}else", f"{indent}  failed=1", f"{indent}fi"]
    return [about, f"{indent}if {run}; then", *inner, *end]


def _resources(cluster: Cluster, shape: RunResources) -> dict[str, str]:
    kind = f"{cluster.gpu_type}:" if cluster.gpu_type else ""
    gpus = {"none": {}, "gres": {"gres": f"gpu:{kind}{shape.gpus}"},
            "gpus-per-node": {"gpus-per-node": f"{kind}{shape.gpus}"}}  # fmt: skip
    names = {"partition": cluster.partition, "account": cluster.account, "qos": cluster.qos}
    return {
        **{name: value for name, value in names.items() if value},
        "nodes": str(shape.nodes),
        "ntasks-per-node": str(shape.processes_per_node),
        "cpus-per-task": str(shape.cpus),
        **({"mem": f"{round(shape.mem_gb * 1024)}M"} if shape.mem_gb else {}),
        **(gpus[cluster.gpu_flag] if shape.gpus else {}),
        "time": str(shape.minutes),
    }


def _body(
    cluster: Cluster, submission: Submission, index: int, modules: tuple[str, str]
) -> list[str]:
    shape = submission.arrays[index].shape
    job, end = (
        f"{_python(module)} {shlex.quote(str(submission.folder))} {index}" for module in modules
    )
    srun = shlex.join(["srun", "--unbuffered", "--kill-on-bad-exit=1", *cluster.srun_args])
    one = shape.nodes == 1
    return [
        *_environment(shape, str(submission.code)),
        f"export {GRACE_SECONDS}={cluster.signal_seconds}",
        f"export MASTER_ADDR={'127.0.0.1' if one else '$SLURMD_NODENAME'}",
        *([f"export TMPDIR={cluster.scratch}"] if cluster.scratch else []),
        *cluster.setup,
        "# The run saves and leaves at SIGTERM; what follows decides whether it comes back.",
        "trap : TERM",
        f"{srun} {job}",
        f"{end} $?",
    ]


def _environment(shape: RunResources | None, code: str | None) -> list[str]:
    lines = [f"export GLIBC_TUNABLES={shlex.quote(with_tunables(''))}"]
    workers = os.environ.get(WORKERS, "")
    if shape is not None:
        threads = threads_of(shape.cpus, gpu=shape.gpus > 0)
        lines.append(
            f"export {CORES}={shape.cpus} OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads}"
        )
        workers = workers or (str(shape.workers) if shape.workers else "")
    if workers:
        lines.append(f"export {WORKERS}={shlex.quote(workers)}")
    if os.environ.get(TRACK):
        lines.append(f"export {TRACK}={shlex.quote(os.environ[TRACK])}")
    if code is not None:
        lines.append(f"export PYTHONPATH={shlex.quote(code)}${{PYTHONPATH:+:$PYTHONPATH}}")
    return lines


def _python(module: str) -> str:
    return f"{shlex.quote(sys.executable)} -P -m {module}"
