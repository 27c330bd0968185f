"""The servers: how each is started, asked whether it is there, and counted."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from beside import Server, free_port, stat_of, told  # noqa: E402
from clients import CLIENTS, Postgres  # noqa: E402


def alone_of(pid):
    """Processor seconds of a process of one thread: finer than the ticks of `stat`, which are as long as what one
    of hundreds of processes takes in a round."""
    try:
        if len(os.listdir(f"/proc/{pid}/task")) == 1:
            return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


class Store(Server):
    """One system at work."""

    start_seconds = 30

    def answers(self):
        try:
            client = self.client()
            client.null()
            client.close()
            return True
        # Each client has its own for what is not there yet.
        except Exception:
            return False

    def client(self, **how):
        return CLIENTS[self.name](self.address, **how)

    def cpu(self):
        """Seconds, of what runs and of children that ended."""
        total = 0
        for pid in self.pids():
            if stat := stat_of(pid):
                total += stat[2] + (alone_of(pid) or stat[1])
        return total

    def resident_mib(self):
        """Proportional, since the processes of PostgreSQL share memory."""
        return self.memory_mib("smaps_rollup", "Pss")

    def disk_mib(self):
        """Blocks that the files have, those that were taken in advance included."""
        files = (Path(top) / name for top, _, names in os.walk(self.folder) for name in names)
        total = 0
        for file in files:
            try:
                total += file.stat().st_blocks * 512
            except FileNotFoundError:
                pass
        return total / (1 << 20)

    def syncs(self, appends, make):
        """Of each of so many appends of one client."""

        def work():
            client = self.client()
            for number in range(appends):
                client.append([make(number)])
            client.close()

        return told(self.count_syncs(work), appends, 2)


class MenteServer(Store):
    name = "Mente"
    how = "one data file of the log overwritten in place and synced, shared by all appends that wait"

    def start(self):
        binary = str(Path(self.options.mente).resolve())
        ports = self.folder / "ports.json"
        data = self.folder / "data"
        self.address = f"127.0.0.1:{free_port()}"
        words = ["--data-dir", str(data), "--http", self.address, "--ports-file", str(ports)]
        self.launch([binary, "server", *words])
        said = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip()
        self.version = f"{said}, one process, as it comes"


class UmadbServer(Store):
    name = "UmaDB"
    how = "pages are written and synced, then the header is written and synced; shared by all appends that wait"
    end = signal.SIGINT

    def start(self):
        from importlib.metadata import version

        self.address = f"127.0.0.1:{free_port()}"
        binary = Path(sys.executable).parent / "umadb"
        data = ["--listen", self.address, "--db-path", str(self.folder / "uma.db")]
        more = (self.options.umadb or "").split()
        self.launch([sys.executable, str(binary), *data, *more])
        said = " ".join(more) or "as it comes"
        self.version = f"umadb {version('umadb')}, the server of its Python package, {said}"


class PostgresServer(Store):
    name = "PostgreSQL"
    how = "wal_sync_method=fdatasync, synchronous_commit=on, fsync=on, full_page_writes=on; commits share a sync"
    end = signal.SIGINT
    SETTINGS = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": 300,
        "shared_buffers": "1GB",
        "max_wal_size": "4GB",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "wal_sync_method": "fdatasync",
    }
    SAID = "shared_buffers=1GB, max_wal_size=4GB, else as it comes"

    @staticmethod
    def programs():
        def number(path):
            word = path.split("/")[-2]
            return int(word) if word.isdigit() else 0

        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=number)
        if not found and (postgres := shutil.which("initdb")):
            found = [str(Path(postgres).resolve().parent)]
        return Path(found[-1]) if found else None

    def start(self):
        programs = self.programs()
        data = self.folder / "data"
        if os.geteuid() == 0:
            # It refuses to be root.
            self.user = "postgres"
            owner = pwd.getpwnam(self.user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        make = ["initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(
            [str(programs / make[0]), *make[1:]],
            capture_output=True,
            text=True,
            cwd=self.folder,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
        )
        if made.returncode:
            raise SystemExit(f"PostgreSQL cannot make its data in {data}: {made.stderr}")
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        settings = [word for name, value in self.SETTINGS.items() for word in ("-c", f"{name}={value}")]
        self.launch([str(programs / "postgres"), "-D", str(data), "-p", str(port), *settings])
        said = subprocess.run([str(programs / "postgres"), "--version"], capture_output=True, text=True)
        self.version = f"{said.stdout.strip()}, {self.SAID}"
        client = self.client()
        client.run(Postgres.TABLE)
        client.close()

    def loaded(self):
        client = self.client()
        for sql in Postgres.INDEXES:
            client.run(sql)
        client.close()

    def unload(self):
        """Before much comes: indexes are made anew behind it, as PostgreSQL's manual advises."""
        client = self.client()
        for sql in Postgres.WITHOUT:
            client.run(sql)
        client.close()


def missing(name, options):
    """Why a system is not here, or nothing."""
    if name == "Mente" and not Path(options.mente).exists():
        return f"no binary {options.mente}: cargo build --release --package mente"
    if name == "UmaDB":
        try:
            import umadb  # noqa: F401
        except ImportError as error:
            return f"its Python package does not load here: {error}"
    if name == "PostgreSQL":
        if not PostgresServer.programs():
            return "no initdb: install Debian's package postgresql"
        if os.geteuid() == 0:
            try:
                pwd.getpwnam("postgres")
            except KeyError:
                return "it refuses to be root, and there is no user postgres"
    return None


SERVERS = {"Mente": MenteServer, "UmaDB": UmadbServer, "PostgreSQL": PostgresServer}
