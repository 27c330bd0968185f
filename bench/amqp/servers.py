"""Starts, holds, measures and stops the brokers: loopback, free ports, data below one temporary directory."""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
SYNCS = "fsync,fdatasync,sync_file_range,msync,io_submit,io_uring_enter"
QUEUES = 1000
START_SECONDS = 90

ARTEMIS = "2.40.0"
ARTEMIS_URL = (
    f"https://repo1.maven.org/maven2/org/apache/activemq/apache-artemis/{ARTEMIS}/apache-artemis-{ARTEMIS}-bin.tar.gz"
)
ARTEMIS_SHA512 = (
    "270a00dc3028fb3b93c6aa09aa3e40fbe76015029e5308e0aac241589299a72d"
    "ac9bb50a10e7e86ad66185e2d8bc7224626810df12f1ee05694322054ad32700"
)
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stat_of(pid):
    """Parent, and processor seconds: own, and of children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), sum(map(int, fields[11:15])) / TICKS


def said_by(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


class Server:
    """One broker at work, with queues 0 to QUEUES - 1."""

    name = ""
    pattern = "bench.%d"
    sasl = "ANONYMOUS"
    # Who settles a message that was received: `first`, the receiver, who waits for nothing; `second`, the receiver
    # after the broker has answered.
    mode = "first"
    end = signal.SIGTERM

    def __init__(self, folder, options):
        self.folder = folder / self.name.lower()
        self.folder.mkdir()
        self.out = open(folder / f"{self.name.lower()}.out", "wb")
        self.process, self.options = None, options
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def launch(self, command, **environment):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
            cwd=self.folder,
            env=os.environ | environment,
            start_new_session=True,
        )
        end = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                said = Path(self.out.name).read_text(errors="replace")[-2000:]
                raise SystemExit(f"{self.name} does not answer:\n{said}")
            time.sleep(0.02)

    def answers(self):
        """AMQP's own greeting, since a port may be open before its broker is there."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                head = b"AMQP\x00\x01\x00\x00" if self.sasl == "none" else b"AMQP\x03\x01\x00\x00"
                probe.sendall(head)
                return probe.recv(8) == head
        except OSError:
            return False

    def pids(self):
        """The server's process and its children, parents first."""
        tree, children = [self.process.pid], {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := stat_of(entry)):
                children.setdefault(stat[0], []).append(int(entry))
        for pid in tree:
            tree += children.get(pid, [])
        return tree

    def tell(self, number):
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def hold(self):
        """Takes no processor and no disk until `go_on`."""
        self.tell(signal.SIGSTOP)

    def go_on(self):
        self.tell(signal.SIGCONT)

    def cpu(self):
        return sum(stat[1] for pid in self.pids() if (stat := stat_of(pid)))

    def resident_mib(self):
        total = 0
        for pid in self.pids():
            try:
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmRSS:"):
                        total += int(line.split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total / 1024

    def syncs(self, work):
        """What strace counts of calls that wait for the disk, or bring it work, while `work` is done."""
        if not shutil.which("strace"):
            return "strace is missing"
        report = self.folder.parent / "strace"
        targets = [word for pid in self.pids() for word in ("-p", str(pid))]
        command = ["strace", "-f", "-c", "-o", str(report), "-e", f"trace={SYNCS}", *targets]
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            time.sleep(1)
            messages = work()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        found = []
        for line in report.read_text().splitlines():
            words = line.split()
            if words and words[-1] in SYNCS.split(","):
                found.append(f"{int(words[3]) / messages * 1000:.0f} {words[-1]}")
        return ", ".join(found) or "strace saw none"

    def kill(self):
        self.tell(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.go_on()
            self.tell(self.end)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.out.close()


class Mente(Server):
    name = "Mente"
    how = "commits of the log overwrite a file in place, one fdatasync each, shared by all that wait; settlements are commits too, and are confirmed when durable"

    def start(self):
        self.binary = str(Path(self.options.mente).resolve())
        self.administration = free_port()
        self.version = f"{said_by(self.binary, '--version')}, one process, as it comes; queues are made when first used"
        self.begin()

    def begin(self):
        doors = ["--http", "127.0.0.1:0", "--amqp", self.address]
        doors += ["--servicebus-admin", f"127.0.0.1:{self.administration}"]
        data = ["--data-dir", str(self.folder / "data"), "--create-topics"]
        self.launch([self.binary, "server", *data, *doors])


class Confirmed(Mente):
    """What clients of Service Bus do, and what the others do not offer."""

    name = "Mente-second"
    mode = "second"


class Artemis(Server):
    name = "Artemis"
    how = "the journal by libaio if that is there (io_submit, O_DIRECT), synced in what its buffer gathers for some us; it takes receiver-settle-mode first only"

    @staticmethod
    def home():
        return Path(os.environ.get("MENTE_TOOLS", HERE.parents[1] / ".tools")) / f"apache-artemis-{ARTEMIS}"

    @classmethod
    def fetch(cls):
        """From Maven Central, once, under its checksum."""
        home = cls.home()
        if home.exists():
            return
        home.parent.mkdir(exist_ok=True)
        archive = home.with_suffix(".tar.gz.part")
        with urllib.request.urlopen(ARTEMIS_URL, timeout=120) as source, open(archive, "wb") as target:
            shutil.copyfileobj(source, target)
        if hashlib.sha512(archive.read_bytes()).hexdigest() != ARTEMIS_SHA512:
            archive.unlink()
            raise OSError(f"{ARTEMIS_URL} is not what its checksum says")
        made = home.with_suffix(".part")
        made.mkdir(exist_ok=True)
        subprocess.run(["tar", "-xzf", archive, "-C", made, "--strip-components=1"], check=True)
        archive.unlink()
        made.rename(home)

    def start(self):
        instance = self.folder / "broker"
        words = ["create", str(instance), "--user", "bench", "--password", "bench", "--allow-anonymous", "--silent"]
        words += ["--no-web", "--no-hornetq-acceptor", "--no-mqtt-acceptor", "--no-stomp-acceptor", "--no-amqp-acceptor"]
        words += ["--default-port", str(self.port)]
        made = subprocess.run([str(self.home() / "bin/artemis"), *words], capture_output=True, text=True)
        if made.returncode:
            raise SystemExit(f"Artemis makes no broker: {made.stdout}{made.stderr}")
        settings = instance / "etc/broker.xml"
        text = settings.read_text().replace(f"tcp://0.0.0.0:{self.port}", f"tcp://{self.address}")
        queues = "".join(
            f'<address name="{name}"><anycast><queue name="{name}"/></anycast></address>'
            for name in (self.pattern % number for number in range(QUEUES))
        )
        if text.count("<addresses>") != 1:
            raise SystemExit("Artemis' settings have no one place for addresses")
        # It takes a disk that others have filled for its own, and blocks.
        full = text.split("<max-disk-usage>")[1].split("<")[0]
        text = text.replace(f"<max-disk-usage>{full}<", "<max-disk-usage>-1<")
        settings.write_text(text.replace("<addresses>", f"<addresses>{queues}"))
        journal = text.split("<journal-type>")[1].split("<")[0]
        synced = "on" if "<journal-datasync>true" in text else "off"
        self.version = f"apache-artemis {ARTEMIS}, {said_by('java', '-version').splitlines()[0]}, journal {journal}, journal-datasync {synced}, max-disk-usage off, else as it comes"
        self.instance = instance
        self.begin()

    def begin(self):
        self.launch([str(self.instance / "bin/artemis"), "run"])


class RabbitMQ(Server):
    name = "RabbitMQ"
    pattern = "/amq/queue/bench.%d"
    sasl = "none"
    how = "durable classic queues: a confirm follows an fsync of what gathered; it refuses receiver-settle-mode second"

    def start(self):
        definitions = {
            "vhosts": [{"name": "/"}],
            "users": [{"name": "guest", "password": "guest", "tags": ["administrator"]}],
            "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
            "queues": [
                {"name": f"bench.{number}", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
                for number in range(QUEUES)
            ],
        }
        (self.folder / "definitions.json").write_text(json.dumps(definitions))
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {self.address}\n"
            f"load_definitions = {self.folder}/definitions.json\n"
            "amqp1_0.default_user = guest\n"
            "amqp1_0.default_vhost = /\n"
            "vm_memory_high_watermark.relative = 0.6\n"
        )
        (self.folder / "enabled_plugins").write_text("[rabbitmq_amqp1_0].\n")
        version = said_by("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server")
        self.version = f"rabbitmq-server {version} of Debian, its plugin rabbitmq_amqp1_0, durable classic queues, as it comes (AMQP 0.9.1 inside)"
        self.begin()

    def begin(self):
        self.launch(
            [str(RABBITMQ)],
            HOME=str(self.folder),
            RABBITMQ_NODENAME=f"bench{self.port}@localhost",
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_MNESIA_BASE=str(self.folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(self.folder / "log"),
            RABBITMQ_CONFIG_FILE=str(self.folder / "rabbitmq.conf"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self.folder / "enabled_plugins"),
            RABBITMQ_PID_FILE=str(self.folder / "pid"),
        )


class Null(Server):
    name = "null"
    sasl = "none"
    how = "nothing is stored"
    version = "null.c: accepts and settles at once, passes messages on in memory; the ceiling of the client"

    def start(self):
        self.launch([str(self.options.programs / "null"), self.address])


def missing(name, options):
    """Why a broker is not here, or nothing."""
    if name in (Mente.name, Confirmed.name) and not Path(options.mente).exists():
        return f"no binary {options.mente}: cargo build --release --package mente"
    if name == "Artemis":
        if not shutil.which("java"):
            return "no java: install Debian's package openjdk-17-jre-headless"
        try:
            Artemis.fetch()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"it cannot be fetched: {error}"
    if name == "RabbitMQ" and not RABBITMQ.exists():
        return "no rabbitmq-server: install Debian's package of that name"
    return None


SERVERS = {server.name: server for server in (Mente, Artemis, RabbitMQ, Null, Confirmed)}
