"""A private Slurm cluster on one machine: two logical nodes, loopback only, in a temporary folder.

munged, slurmctld and two slurmd run in the foreground as children of the test, without systemd or
cgroups, and what keeps accounts where its packages are installed.
https://slurm.schedmd.com/slurm.conf.html names every option.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

NODES = 2
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
CONFIGURATION = """\
ClusterName=backbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
SlurmctldParameters={slurmctld}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=20
SlurmdTimeout=15
SlurmctldTimeout=10
InactiveLimit=0
MinJobAge=300
MessageTimeout=10
TCPTimeout=5
CompleteWait=0
ReturnToService=2
{accounting}JobAcctGatherType=jobacct_gather/none
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=4 \
RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=8
PartitionName=low0 Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none\n"


def why_not():
    """Return why no cluster can be started here, empty when one can."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=search_path()) is None]
    if missing:
        return f"missing {', '.join(missing)}: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "Slurm's daemons need root here"
    if not socket.gethostbyname(socket.gethostname()).startswith("127."):
        return "this machine's name is no loopback address"
    return ""


def wait_for(condition, seconds=120.0, what="the cluster"):
    """Wait; the bound is far above what is expected, for machines that are busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


class SlurmCluster:
    """The daemons; requeued jobs are released from their wait of two minutes.

    Args:
        folder: Of all that they write.
        accounting: What keeps accounts, made from the folder, two ports and two functions that
            start and wait; None for none.
    """

    def __init__(self, folder, accounting=None):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": search_path()}
        self._port = _free_ports()
        self._processes = {}
        self._end = threading.Event()
        self._hurry = threading.Thread(target=self._release, daemon=True)
        ports = (self._port + NODES + 1, self._port + NODES + 2)
        self.accounting = accounting and accounting(folder, ports, self._spawn, wait_for)

    def start(self):
        for name in ("munge", "state", *(f"spool.n{i + 1}" for i in range(NODES))):
            (self.folder / name).mkdir(parents=True)
        for path in (self.folder, self.folder / "munge"):
            path.chmod(0o755)
        key = self.folder / "munge" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self.configure("idle_on_node_suspend")
        munge = self.folder / "munge"
        self._spawn("munged", "-F", "-f", "-S", munge / "munge.sock", f"--key-file={key}",
                    f"--pid-file={munge}/pid", f"--log-file={munge}/log",
                    f"--seed-file={munge}/seed")  # fmt: skip
        wait_for((munge / "munge.sock").exists, what="munged")
        if self.accounting:
            self.accounting.start()
            self("sacctmgr", "-i", "add", "cluster", "backbench")
        self.start_controller()
        for number in range(NODES):
            self.start_node(f"n{number + 1}")
        self.wait_until_idle()
        self._hurry.start()

    def configure(self, slurmctld, *more):
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0], port=self._port, folder=self.folder,
            nodes=NODES, first=self._port + 1, last=self._port + NODES, slurmctld=slurmctld,
            accounting=self.accounting.configuration if self.accounting else NO_ACCOUNTING,
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text("\n".join([text, *more, ""]))

    def start_controller(self):
        self._processes.pop("slurmctld", None)
        self._spawn("slurmctld", "-D")
        wait_for(lambda: "is UP" in self("scontrol", "ping"), what="slurmctld")

    def start_node(self, name):
        self._spawn("slurmd", "-D", "-N", name, key=name)

    def slurmd_start(self, node):
        """Return when the slurmd of a node that the controller knows of was started."""
        facts = self("scontrol", "-o", "show", "node", node).split()
        return next(fact for fact in facts if fact.startswith("SlurmdStartTime="))

    def revive(self):
        """Start anew whatever a test left dead, so that one failure does not fail the rest."""
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                del self._processes[name]
        if self.accounting and "slurmdbd" not in self._processes:
            self.accounting.start_slurmdbd()
        if "slurmctld" not in self._processes:
            self.start_controller()
        for number in range(NODES):
            if f"n{number + 1}" not in self._processes:
                self.start_node(f"n{number + 1}")
        self("scontrol", "update", "NodeName=n[1-2]", "State=RESUME")
        self.wait_until_idle()

    def wait_until_idle(self):
        wait_for(lambda: self("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D").strip() == "2")

    def stop(self, name, number=signal.SIGTERM, patience=20):
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            # slurmctld has saved its state by then, and waits for who knows what.
            process.kill()
            process.wait(60)

    def lose(self, node):
        """Kill a node's slurmd and everything that any job runs, as when its power fails."""
        self.stop(node, signal.SIGKILL)
        self._kill_jobs()

    def _kill_jobs(self):
        daemons = {process.pid for process in self._processes.values()}
        for entry in Path("/proc").glob("[0-9]*/environ"):
            pid = int(entry.parent.name)
            with contextlib.suppress(OSError):
                if pid not in daemons and f"={self.folder}/".encode() in entry.read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def shut_down(self):
        self._end.set()
        self("scancel", "-u", "root")
        with contextlib.suppress(AssertionError):
            wait_for(self.is_idle, 60, "jobs to end")
        self._hurry.join(10)
        for name in reversed(list(self._processes)):
            self.stop(name, patience=3)
        # What manages a job's steps outlives its slurmd.
        self._kill_jobs()

    def __call__(self, *command):
        environment = {**os.environ, **self.environment}
        # In the cluster's folder, which goes with it: a job's working folder, and where cores fall.
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True,
                              text=True, timeout=120)  # fmt: skip
        return done.stdout

    def is_idle(self):
        """Tell whether no job is left; a controller that does not answer is not idle."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(["squeue", "-h"], cwd=self.folder, env=environment,
                              capture_output=True, timeout=120, check=False)  # fmt: skip
        return done.returncode == 0 and not done.stdout

    def report(self):
        """Return what Slurm and its daemons say, for whoever has to find out why a test failed."""
        logs = [(path.name, path.read_text(errors="replace").splitlines()[-25:])
                for path in sorted(self.folder.glob("*.log"))]  # fmt: skip
        texts = [f"{name}:\n" + "\n".join(lines) for name, lines in logs]
        return "\n".join([self("squeue"), self("sinfo"), *texts])

    def _spawn(self, tool, *arguments, key=""):
        with (self.folder / f"{key or tool}.out").open("a") as log:
            self._processes[key or tool] = subprocess.Popen(
                [shutil.which(tool, path=search_path()), *map(str, arguments)],
                cwd=self.folder, env={**os.environ, **self.environment}, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def _release(self):
        seen = {}
        while not self._end.wait(0.5):
            # Slurm may be down, or as slow as its machine; the next look may find it well again.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._release_once(seen)

    def _release_once(self, seen):
        for line in self("squeue", "-h", "-r", "-t", "PD", "-o", "%i %r").splitlines():
            job, _, reason = line.partition(" ")
            facts = self("scontrol", "-o", "show", "job", job)
            restart = facts.partition("Restarts=")[2].partition(" ")[0]
            # What is left of the last attempt ends first, as it does within two minutes.
            first = seen.setdefault((job, restart), time.monotonic())
            late = time.monotonic() - first > 2
            if reason == "BeginTime" and restart not in ("", "0") and late:
                self("scontrol", "update", f"JobId={job}", "StartTime=now")


def search_path():
    """Return where tools are looked for: root's too, whoever asks."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


def _free_ports():
    """Return the first of a few ports in a row that nobody listens on."""
    for first in range(21000 + os.getpid() % 900 * 10, 60000, 10):
        try:
            for port in range(first, first + NODES + 3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise RuntimeError("no free ports")
