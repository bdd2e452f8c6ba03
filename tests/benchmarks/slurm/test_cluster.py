"""Profiles and scripts, without any Slurm."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from backbones.base.errors import UserError
from benchmarks.cli import main
from benchmarks.commands.cluster import draft
from benchmarks.slurm import client as slurm
from benchmarks.slurm import launch as snapshot
from benchmarks.slurm.cluster import Cluster, RunResources, parse_cluster, read_cluster
from benchmarks.slurm.sbatch import sbatch_text
from benchmarks.slurm.submission import plan_submission, read_submission
from benchmarks.store.folders import Store
from benchmarks.store.heartbeat import write_heartbeat
from benchmarks.work.monitor import WorkerMonitor

RUN = Path(__file__).resolve().parents[3] / "benchmarks" / "run.py"
SLURM = ("--executor", "slurm", "--cluster", "my")


def parse(text):
    import tomllib

    return parse_cluster(Path("my.toml"), tomllib.loads(text))


def test_an_empty_profile_is_one():
    assert parse("") == Cluster("my")


def test_tasks_change_what_their_runs_get():
    cluster = parse('gpus = 1\ncpus = 8\nsetup = ["module load x"]\n[tasks.pretrain]\ngpus = 8')
    assert cluster.shape_of("coco") == RunResources(gpus=1, cpus=8)
    assert cluster.shape_of("pretrain") == RunResources(gpus=8, cpus=8)
    assert cluster.shape_of("pretrain").processes_per_node == 8
    assert cluster.setup == ("module load x",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin = 'x'", 'Did you mean "partition"'),
        ("gpus = '1'", 'gpus: "1" is not supported; use a whole number of at least 0'),
        ("gpus = true", "gpus: true is not supported"),
        ("gpus = -1", "gpus: -1 is not supported"),
        ("minutes = 0", "use a whole number of at least 1"),
        ("mem_gb = 'lots'", "use a number of at least 0"),
        ("setup = 'module load'", "use a list, each one line of plain text"),
        ('setup = ["a\\nb"]', "one line of plain text"),
        ('partition = "a\\nrm -rf"', "one line of plain text"),
        ("gpu_flag = 'gpu'", 'use "gpus-per-node", "gres" or "none"'),
        ("sbatch_args = ['-x']", "each --name=value"),
        ("signal_seconds = 0", "at least 1 and at most 65535"),
        ("[tasks.coco]\ncpus = 0", "tasks.coco.cpus: 0 is not supported"),
        ("tasks = 3", r"\[tasks.NAME\]"),
        ("[tasks.coco]\npartition = 'x'", "tasks.coco.partition"),
        ("name = 'x'", 'Unknown value "name"'),
    ],
)
def test_a_wrong_profile_is_one_sentence(text, words):
    with pytest.raises(UserError, match=words) as caught:
        parse(text)
    assert "my.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_profiles_lie_beside_the_runs_or_with_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(UserError, match="cluster init my"):
        read_cluster("my")
    users = tmp_path / "config" / "backbench" / "clusters"
    users.mkdir(parents=True)
    (users / "my.toml").write_text("cpus = 2")
    assert read_cluster("my").shape.cpus == 2
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "my.toml").write_text("cpus = 3")
    assert read_cluster("my").shape.cpus == 3
    assert read_cluster(str(users / "my.toml")).shape.cpus == 2
    with pytest.raises(UserError, match="Available: my"):
        read_cluster("mu")
    (users / "my.toml").write_text("cpus = ")
    with pytest.raises(UserError, match="is not TOML"):
        read_cluster(str(users / "my.toml"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gpus = 2", "#SBATCH --gpus-per-node=2"),
        ("gpus = 2\ngpu_type = 'a100'", "#SBATCH --gpus-per-node=a100:2"),
        ("gpus = 2\ngpu_flag = 'gres'", "#SBATCH --gres=gpu:2"),
        ("gpus = 2\ngpu_flag = 'gres'\ngpu_type = 'a100'", "#SBATCH --gres=gpu:a100:2"),
        ("gpus = 2", "#SBATCH --ntasks-per-node=2"),
        ("mem_gb = 1.5", "#SBATCH --mem=1536M"),
        ("account = 'a b'", "#SBATCH --account='a b'"),
        ("minutes = 90", "#SBATCH --time=90"),
        ("sbatch_args = ['--constraint=x']", "#SBATCH --constraint=x"),
        ("cpus = 8", "export BACKBENCH_CORES=8 OMP_NUM_THREADS=6 MKL_NUM_THREADS=6"),
        # A GPU is fed by one thread and as many loaders as there are other cores.
        ("gpus = 1", "export BACKBENCH_CORES=8 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1"),
        ("gpus = 1\ncpus = 3", "export BACKBENCH_CORES=3 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1"),
        ("workers = 5", "export BACKBENCH_WORKERS=5"),
        ("nodes = 2", "export MASTER_ADDR=$SLURMD_NODENAME"),
        ("scratch = '$SCRATCH/x'", "export TMPDIR=$SCRATCH/x"),
        ("setup = ['module load y']", "module load y"),
        ("signal_seconds = 77", "#SBATCH --signal=USR2@77"),
        ("signal_seconds = 77", "export BACKBENCH_GRACE_SECONDS=77"),
    ],
)
def test_what_a_profile_puts_into_the_script(text, line, tmp_path, make_request):
    cluster = parse(text)
    submission = plan_submission(Store(tmp_path), cluster, tmp_path / "code", [make_request()])
    script = sbatch_text(cluster, submission, 0, 3).splitlines()
    assert line in script
    assert "#SBATCH --array=0-0%3" in script
    checked = subprocess.run(["bash", "-n"], input="\n".join(script), text=True, check=False)
    assert checked.returncode == 0


def test_runs_are_grouped_and_dependencies_named(tmp_path, make_request, make_spec):
    first = make_request(make_spec(task="pretrain"))
    needing = [make_request(make_spec(seed=s), needs=first.spec.run_id) for s in (1, 2)]
    free = make_request(make_spec(seed=3))
    requests = [free, first, *needing]
    submission = plan_submission(Store(tmp_path), Cluster("my"), tmp_path, requests)
    assert [(array.task, len(array.runs), array.after) for array in submission.arrays] == [
        ("coco", 1, ()), ("pretrain", 1, ()), ("coco", 2, (1,))
    ]  # fmt: skip
    later = plan_submission(Store(tmp_path), Cluster("my"), tmp_path, [free, *needing],
                            {first.spec.run_id: "5_3", "other": "6_0"})  # fmt: skip
    assert [(len(array.runs), array.waits_for) for array in later.arrays] == [
        (1, ()),
        (2, ("5_3",)),
    ]
    assert "--dependency=afterany:5_3" in sbatch_text(Cluster("my"), later, 1, 0)
    submission = submission.with_job(1, "77")
    assert "--dependency=afterany:77" in sbatch_text(Cluster("my"), submission, 2, 0)
    submission.folder.mkdir(parents=True)
    submission.save()
    assert read_submission(submission.folder) == submission


def test_a_thousand_runs_are_few_arrays(tmp_path, make_request, make_spec):
    requests = [make_request(make_spec(seed=seed)) for seed in range(2500)]
    submission = plan_submission(Store(tmp_path), Cluster("my"), tmp_path, requests)
    assert [len(array.runs) for array in submission.arrays] == [1000, 1000, 500]
    assert len({array.name for array in submission.arrays}) == 3


def profile(run_py, text=""):
    (run_py.folder / "clusters").mkdir(exist_ok=True)
    (run_py.folder / "clusters" / "my.toml").write_text(text)


def test_a_dry_run_shows_the_scripts_without_slurm_and_leaves_nothing(run_py):
    profile(run_py, "minutes = 7")
    done = run_py(*SLURM, "--entries", "vit-nano,mae-nano", "--dry-run", PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("#!/bin/bash") == 3
    assert "#SBATCH --time=7" in done.stdout
    assert "afterany:<job of array 1>" in done.stdout
    assert not run_py.runs.exists()
    code = (
        f"import runpy, sys; sys.argv = [{str(RUN)!r}, *{SLURM!r}, '--dry-run']\n"
        f"try: runpy.run_path({str(RUN)!r}, run_name='__main__')\n"
        "except SystemExit as error: assert not error.code\n"
        "sys.exit(bool({'submitit', 'torch'} & set(sys.modules)))"
    )
    plain = subprocess.run([sys.executable, "-c", code], cwd=run_py.folder,
                           env=run_py.environment(), capture_output=True, check=False)  # fmt: skip
    assert plain.returncode == 0, plain.stderr


def test_a_batch_that_a_cluster_cannot_share_out_is_refused_before_it_waits(run_py):
    profile(run_py, "nodes = 2\n[tasks.coco]\nnodes = 3\n")
    done = run_py(*SLURM, "--dry-run", PATH="/nowhere")
    assert done.returncode == 2
    assert "coco, recipe mini: The global batch of 4 images" in done.stderr
    assert "over 3 processes" in done.stderr
    profile(run_py, "nodes = 2\n[tasks.coco]\nprocesses = 2\nnodes = 1\n")
    assert run_py(*SLURM, "--dry-run", PATH="/nowhere").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--executor", "slurm"], 2, "needs --cluster NAME"),
        (["--cluster", "my"], 2, "--cluster goes with --executor slurm"),
        (["--max-parallel", "2"], 2, "--max-parallel goes with --executor slurm"),
        (["--executor", "slurm", "--cluster", "mine"], 2, "Available: my"),
        (["--executor", "slurm", "--cluster", "my"], 4, "There is no sbatch here"),
        (["cluster", "init", "other"], 4, "There is no sbatch here"),
        (["retry"], 4, "There is no folder runs"),
        (["logs", "12"], 4, "There is no folder runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_sentence(run_py, arguments, code, words):
    profile(run_py)
    done = run_py(*arguments, PATH="/nowhere")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def scontrol_that(folder, does):
    """Return the path variable with a Slurm whose controller answers like that."""
    tools = folder / "tools"
    tools.mkdir()
    for name, text in (("sbatch", "exec true"), ("srun", "exec true"), ("scontrol", does)):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("exec sleep 60", "scontrol did not answer in 5 s"),
        ("echo 'Slurmctld(primary) at a is DOWN\n*** RESTORE ***'; exit 1", "controller is down"),
        ("echo 'scontrol: error: No configuration.' >&2; exit 1", "(No configuration.)"),
    ],
    ids=["silent", "down", "unknown"],
)
def test_an_unreachable_cluster_is_one_sentence_within_ten_seconds(run_py, does, why):
    profile(run_py)
    path = scontrol_that(run_py.folder, does)
    start = time.monotonic()
    done = run_py(*SLURM, PATH=path)
    assert time.monotonic() - start < 10
    assert done.returncode == 4
    assert "No Slurm cluster can be reached" in done.stderr
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_one_controller_of_a_pair_is_enough(tmp_path, monkeypatch):
    answer = "echo 'Slurmctld(primary) at a is DOWN'; echo 'Slurmctld(backup) at b is UP'; exit 1"
    monkeypatch.setenv("PATH", scontrol_that(tmp_path, answer))
    slurm.check_reachable()


def test_print_gives_a_script_that_does_the_runs(run_py):
    done = run_py("--executor", "print", "--entries", "mae-nano,swin-nano")
    assert done.returncode == 0, done.stderr
    script = done.stdout
    assert script.startswith("#!/bin/bash\nset -eu\ncd ")
    assert "3 missing; 3 to run" in done.stderr
    environment = run_py.environment()
    environment["PYTHONPATH"] += os.pathsep + str(RUN.parents[1])
    ran = subprocess.run(["bash"], input=script, text=True, cwd="/", env=environment,
                         capture_output=True, check=False)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "3 done" in run_py("status").stdout


def test_a_printed_script_skips_what_needs_a_failed_run_and_goes_on(run_py):
    done = run_py("--executor", "print", "--entries", "mae-nano,swin-nano")
    planned = json.loads(run_py("status", "--json").stdout)
    runs = {(run["task"], run["entry"]): run_py.runs / run["run"] for run in planned}
    (runs["pretrain", "mae-nano"] / "run.json").write_text("damaged")
    environment = run_py.environment()
    environment["PYTHONPATH"] += os.pathsep + str(RUN.parents[1])
    ran = subprocess.run(["bash"], input=done.stdout, text=True, cwd="/", env=environment,
                         capture_output=True, check=False)  # fmt: skip
    assert ran.returncode == 3, ran.stderr
    assert not (runs["coco", "mae-nano"] / "record.json").exists()
    assert (runs["coco", "swin-nano"] / "record.json").exists()


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_a_printed_script_has_no_fault_that_shellcheck_finds(run_py):
    done = run_py("--executor", "print", "--entries", "mae-nano,swin-nano", "--out", "my runs")
    checked = subprocess.run(["shellcheck", "-"], input=done.stdout, text=True,
                             capture_output=True, check=False)  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_logs_and_retry_without_the_first_command(run_py):
    run_py("--entries", "vit-nano,swin-nano", STAND_IN_FAIL="swin-nano=crash")
    (failed,) = [s for s in json.loads(run_py("status", "--json").stdout) if s["state"] == "failed"]
    logs = run_py("logs", failed["run"][:6])
    assert "attempt 1" in logs.stdout
    assert "RuntimeError: shapes differ" in logs.stdout
    assert run_py("logs", "").returncode == 2
    plan = run_py("retry", "--failed", "--dry-run")
    assert "1 failed; 1 to run" in plan.stdout
    assert run_py("retry", "--failed").returncode == 0
    assert "2 done" in run_py("watch").stdout


def test_a_superseded_attempt_stops_and_does_not_record(tmp_path, make_request):
    class Wish:
        requested = False
        signal = None

        def request(self):
            self.requested = True

    folder = Store(tmp_path).prepare(make_request())
    wish = Wish()
    with WorkerMonitor(folder, 1, wish, sys.stdout) as monitor:
        assert not monitor.superseded
        beat = folder.read_heartbeat()
        write_heartbeat(folder.heartbeat, replace(beat, attempt=2))
        end = time.monotonic() + 10
        while not monitor.should_stop():
            assert time.monotonic() < end
            time.sleep(0.05)
    assert monitor.superseded
    assert "attempt 2 took over" in monitor.why_stopped()
    assert folder.read_heartbeat().attempt == 2, "the later attempt's file was overwritten"


def test_a_snapshot_is_whole_named_by_its_content_and_taken_once(tmp_path):
    place = snapshot.take_snapshot(tmp_path)
    assert not list(place.rglob("__pycache__"))
    made = place.stat().st_mtime_ns
    assert snapshot.take_snapshot(tmp_path) == place
    assert place.stat().st_mtime_ns == made
    program = "from benchmarks.store.environment import code_sha256; print(code_sha256()[:16])"
    done = subprocess.run([sys.executable, "-c", program], cwd=place, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": ""}, check=True)  # fmt: skip
    assert done.stdout.strip() == place.name


SINFO = """\
short|4:00:00|64|515000|gpu:a100:4(S:0-1)|10
gpu*|3-00:00:00|128+|1030000+|gpu:h100:8|4
cpu|infinite|32|64000|(null)|9
"""


def test_a_draft_is_a_profile(tmp_path):
    text = draft(SINFO)
    assert parse(text).shape == RunResources(gpus=1, cpus=8, mem_gb=125, minutes=1440)
    assert parse(text).partition == "gpu"
    assert "a100" in text
    assert parse(draft("cpu|30:00|2|4000|(null)|1")).shape == RunResources(
        cpus=2, mem_gb=3, minutes=30
    )
    with pytest.raises(UserError):
        draft("")


def test_a_damaged_submission_is_named_and_stops_nothing(tmp_path, make_request, capsys):
    store = Store(tmp_path)
    request = make_request()
    store.prepare(request)
    plan_submission(store, Cluster("my"), tmp_path / "code", [request]).save()
    (path,) = tmp_path.glob(".slurm/*/submission.json")
    path.write_text(path.read_text().replace('"coco"', '"cOco"'))
    assert main(["status", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert request.spec.run_id in said.out
    assert "submission.json: its checksum differs" in said.err
