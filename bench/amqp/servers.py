"""The brokers: how each is started, and asked whether it is there."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from beside import Server, free_port, said_by, told  # noqa: E402

QUEUES = 1000

ARTEMIS = "2.40.0"
ARTEMIS_ARCHIVE = f"org.apache.activemq:apache-artemis:{ARTEMIS}:tar.gz:bin"
ARTEMIS_SHA512 = (
    "270a00dc3028fb3b93c6aa09aa3e40fbe76015029e5308e0aac241589299a72d"
    "ac9bb50a10e7e86ad66185e2d8bc7224626810df12f1ee05694322054ad32700"
)
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Broker(Server):
    """One broker at work, with queues 0 to QUEUES - 1."""

    pattern = "bench.%d"
    sasl = "ANONYMOUS"
    # Who settles a message that was received: `first`, the receiver, who waits for nothing; `second`, the receiver
    # after the broker has answered.
    mode = "first"

    def __init__(self, folder, options):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__(folder, options)

    def answers(self):
        """AMQP's own greeting, since a port may be open before its broker is there."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                head = b"AMQP\x00\x01\x00\x00" if self.sasl == "none" else b"AMQP\x03\x01\x00\x00"
                probe.sendall(head)
                return probe.recv(8) == head
        except OSError:
            return False

    def ask_to_end(self):
        """Each process: a script is the parent of some."""
        self.tell(self.end)

    def resident_mib(self):
        return self.memory_mib("status", "VmRSS")

    def syncs(self, work):
        """Of each thousand of the messages that `work` counts."""
        messages = []
        calls = self.count_syncs(lambda: messages.append(work()))
        return told(calls, sum(messages) / 1000, 0)


class Mente(Broker):
    name = "Mente"
    how = "commits of the log overwrite a file in place, one fdatasync each, shared by all that wait; settlements are commits too, 5 ms later at most where nobody waits for them"

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
    how = "the same; settlements are confirmed when they are durable"
    mode = "second"


class Artemis(Broker):
    name = "Artemis"
    how = "the journal by libaio if that is there (io_submit, O_DIRECT), synced in what its buffer gathers for some us; it takes receiver-settle-mode first only"

    @staticmethod
    def home():
        return Path(os.environ.get("MENTE_TOOLS", HERE.parents[1] / ".tools")) / f"apache-artemis-{ARTEMIS}"

    @classmethod
    def fetch(cls):
        """Through Maven, once, under its checksum."""
        home = cls.home()
        if home.exists():
            return
        home.parent.mkdir(exist_ok=True)
        archive = home.parent / f"apache-artemis-{ARTEMIS}-bin.tar.gz"
        copy = ["dependency:copy", f"-Dartifact={ARTEMIS_ARCHIVE}", f"-DoutputDirectory={home.parent}"]
        subprocess.run(["mvn", "-B", "-q", *copy], check=True, stdout=sys.stderr)
        if hashlib.sha512(archive.read_bytes()).hexdigest() != ARTEMIS_SHA512:
            archive.unlink()
            raise OSError(f"{ARTEMIS_ARCHIVE} is not what its checksum says")
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


class RabbitMQ(Broker):
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


class Null(Broker):
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
