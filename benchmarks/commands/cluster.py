"""``run.py cluster init|test NAME``: draft a profile from what Slurm says, and try it out."""

from backbones.base.errors import UserError
from backbones.base.files import write_atomically
from backbones.base.wording import command
from benchmarks import output
from benchmarks.options import ClusterOptions
from benchmarks.slurm import client as slurm
from benchmarks.slurm.cluster import profile_path

_SINFO_FIELDS = "%P|%l|%c|%m|%G|%D"
_LONGEST_MINUTES = 24 * 60
_KEPT_CPUS = 8


def main(options: ClusterOptions) -> int:
    """Run the command.

    Raises:
        UserError: A profile cannot have this name, exists already or is wrong.
        PreflightError: No cluster answers.
    """
    path = profile_path(options.name) if options.action == "init" else None
    slurm.check_reachable()
    if path is None:
        # Only here: submitit takes its time to import.
        from benchmarks.slurm.cluster_test import run_test_job

        return run_test_job(options.name, options.out, options.json)
    if path.exists():
        raise UserError(f"{path} is there already; edit it, or give another name.")
    text = draft(slurm.ask(["sinfo", "-h", "-o", _SINFO_FIELDS]))
    write_atomically(path, text.encode())
    if options.json:
        output.document({"file": str(path)})
    else:
        output.line(f"wrote {path}; read it, then {command('cluster', 'test', path.stem)}")
    return 0


def draft(sinfo: str) -> str:
    """Return a profile for the default partition, or the first; the others stand as comments.

    Args:
        sinfo: A line a partition: name, time limit, CPUs, MiB, generic resources, nodes.
    """
    rows = [line.split("|") for line in sinfo.splitlines() if line.count("|") == 5]
    if not rows:
        raise UserError("sinfo names no partition that this account may use.")
    chosen = next((row for row in rows if row[0].endswith("*")), rows[0])
    name, limit, cpus, memory, gres, _ = chosen
    gpus = _gpus(gres)
    share = max(1, gpus)
    least = _number(cpus)
    lines = [
        "# Drafted from sinfo; docs/clusters.md explains every value.",
        f'partition = "{name.rstrip("*")}"',
        '# account = ""',
        '# qos = ""',
        f'gpu_flag = "{"gpus-per-node" if gpus else "none"}"',
        f"gpus = {min(1, gpus)}",
        f"cpus = {max(1, min(_KEPT_CPUS, least // share))}",
        f"mem_gb = {max(1, _number(memory) // 1024 // share)}",
        f"minutes = {min(_minutes(limit), _LONGEST_MINUTES)}",
        "signal_seconds = 180",
        'setup = []  # such as "module load cuda"',
        "",
        "# Pretraining may want more; tasks without a section get the above.",
        "# [tasks.pretrain]",
        f"# gpus = {share}",
        "",
        "# Partitions (name, time limit, CPUs, MiB, generic resources, nodes):",
        *(f"#   {'  '.join(row)}" for row in rows),
    ]
    return "\n".join([*lines, ""])


def _gpus(gres: str) -> int:
    """Return the GPUs of a node, from a text such as ``gpu:a100:8(S:0-1),nvme:1``."""
    for item in gres.split(","):
        kind, *rest = item.partition("(")[0].split(":")
        if kind == "gpu":
            return _number(rest[-1]) if rest else 1
    return 0


def _number(text: str) -> int:
    """Return the number that a text such as ``64+`` begins with, 0 for none."""
    digits = text.rstrip("+")
    return int(digits) if digits.isdecimal() else 0


def _minutes(limit: str) -> int:
    """Return a time limit of Slurm, ``days-hours:minutes:seconds``, in minutes."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in parts):
        return _LONGEST_MINUTES
    seconds = 0
    for part in ["0", "0", *parts][-3:]:
        seconds = seconds * 60 + int(part)
    return max(1, _number(days) * 1440 + seconds // 60)
