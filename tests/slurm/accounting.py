"""The accounting of a private cluster: MariaDB and slurmdbd, loopback only, in its folder.

https://slurm.schedmd.com/slurmdbd.conf.html names every option.
"""

import secrets
import shutil
import socket
import subprocess

TOOLS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db")
# What slurm.conf says of it.
KEPT = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge/munge.sock
"""
SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
CommunicationParameters=NoInAddrAny
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""
ACCOUNT = """\
create database slurm;
create user slurm@'127.0.0.1' identified by '{password}';
create user slurm@localhost identified by '{password}';
grant all on slurm.* to slurm@'127.0.0.1';
grant all on slurm.* to slurm@localhost;
"""


def why_not(path):
    """Return why no accounting can be kept here, empty when it can.

    Args:
        path: Where tools are looked for.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        return (
            f"missing {', '.join(missing)}: apt-get install slurmdbd mariadb-server mariadb-client"
        )
    return ""


class Accounting:
    """The database and what writes into it.

    Args:
        folder: Of the cluster.
        ports: Of slurmdbd and of MariaDB.
        spawn: Starts a daemon of the cluster.
        wait_for: Waits for a condition.
    """

    def __init__(self, folder, ports, spawn, wait_for):
        self._folder = folder
        self._database = folder / "database"
        self._socket = folder / "mariadb.sock"
        self._slurmdbd_port, self._mariadbd_port = ports
        self._password = secrets.token_hex(16)
        self._spawn = spawn
        self._wait_for = wait_for

    @property
    def configuration(self):
        """The lines of slurm.conf."""
        return KEPT.format(slurmdbd=self._slurmdbd_port, folder=self._folder)

    def start(self):
        """Make an empty database, and start what keeps it."""
        self._install()
        self._spawn(
            "mariadbd", "--no-defaults", "--user=root", f"--datadir={self._database}",
            f"--socket={self._socket}", f"--pid-file={self._folder}/mariadbd.pid",
            "--bind-address=127.0.0.1", f"--port={self._mariadbd_port}",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900",
            "--performance-schema=OFF",
        )  # fmt: skip
        self._wait_for(lambda: _answers(self._mariadbd_port), what="MariaDB")
        subprocess.run(
            ["mariadb", "--no-defaults", "--user=root", f"--socket={self._socket}"],
            input=ACCOUNT.format(password=self._password), text=True, check=True, timeout=60,
        )  # fmt: skip
        self.start_slurmdbd()

    def start_slurmdbd(self):
        """Start slurmdbd on the database that is there."""
        self._spawn("slurmdbd", "-D")
        self._wait_for(lambda: _answers(self._slurmdbd_port), what="slurmdbd")

    def _install(self):
        """Write an empty database, and who may read its password."""
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={self._database}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        path = self._folder / "slurmdbd.conf"
        path.touch(0o600)
        host = socket.gethostname().partition(".")[0]
        path.write_text(SLURMDBD.format(
            folder=self._folder, host=host, slurmdbd=self._slurmdbd_port,
            mariadbd=self._mariadbd_port, password=self._password,
        ))  # fmt: skip


def _answers(port):
    """Tell whether anybody listens on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False
