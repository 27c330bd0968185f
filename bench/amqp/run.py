"""Mente's queues beside ActiveMQ Artemis and RabbitMQ: one machine, one disk, one AMQP 1.0 client, durable messages,
all brokers in turn in one run.

usage: run.py [--quick] [--rounds N] [--seconds S] [--rows A,B] [--backlog N] [--subscriptions A,B] [--large A,B] [--mente FILE] [--dir DIR]

`cargo xtask long bench-amqp` sees to what it needs.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import backlog
import large
import subscriptions
from servers import SERVERS, Mente, missing

from beside import aligned, die_with_parent, disk_sync, filesystem, median, say

HERE = Path(__file__).parent
# Debian has the development files of the older library only.
PROTON = ["-l:libqpid-proton-proactor.so.1", "-l:libqpid-proton-core.so.10", "-lpthread"]
GOAL = 3
# Ratio of two syncs up to which a disk was the same for two brokers.
SAME_DISK = 1.5

# Name, connections, queues, messages a second of the open loop, phases.
LOADS = [
    ("1-1", 1, 1, 1, ["send", "receive", "both"]),
    ("32-1", 32, 1, 1, ["send", "receive", "both"]),
    ("1-1000", 1, 1000, 1, ["send", "receive", "both"]),
    ("32-1000", 32, 1000, 1, ["send", "receive", "both"]),
    ("1-1", 1, 1, 1_000, ["latency"]),
    ("32-32", 32, 32, 5_000, ["latency"]),
]
MEANT = """\
send-C-Q: C connections send to Q queues, closed loop; accepted messages a second
receive-C-Q: the same messages are received, accepted and settled
both-C-Q: sent, received and settled together, until the last one is
latency-C-Q: us from the moment at which a message was due (1,000 a second; 5,000 with 32 connections) to its
  receipt, open loop: waiting for a broker that is late is in it"""

NOT_COMPARABLE = """\
Of unlike things, and whom it favours:
- A received message is accepted and settled by the client, who waits for no answer: receiver-settle-mode first, which
  is all that Artemis and RabbitMQ take. Clients of Service Bus settle second, once the broker has answered that it is
  on the disk: that is the column Mente-second, which no ratio is of.
- Mente keeps what it is given as an event that every door reads, with checksums over batches and commits, and writes
  it again into packs, sorted; Artemis and RabbitMQ keep their own message and drop it when it is settled (for them,
  in bytes written).
- RabbitMQ 3.10 turns AMQP 1.0 into 0.9.1 and back in a plugin; RabbitMQ 4 speaks it itself, and is not Debian's.
- Artemis' JVM and RabbitMQ's were warmed up by a turn that no row shows, and so was Mente.
- Client and server share the processors, so a server that needs less of them leaves more to its client. Idle
  brokers are stopped; what the kernel writes later is synced before the next turn.
- One disk, one node, no replication, 1 KiB, no selectors, sessions, transactions or schedules."""


def build(folder):
    for name in ("load", "null"):
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(folder / name), str(HERE / f"{name}.c"), *PROTON]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name}.c is not built (Debian: gcc, libc6-dev, libqpid-proton11-dev): {done.stderr}")


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.servers, self.absent, self.short = {}, {}, []
        self.results, self.checked, self.confirms = {}, {}, {}
        self.waiting, self.matched, self.beside_large, self.is_exact = [], [], [], True

    def start(self):
        for name in SERVERS:
            if self.options.brokers and name not in self.options.brokers:
                continue
            why = missing(name, self.options)
            if why:
                self.absent[name] = why
                say(f"bench: {name} is missing: {why}")
                continue
            self.servers[name] = SERVERS[name](self.folder, self.options)
            self.servers[name].hold()
            say(f"bench: {name} is there")

    def stop(self):
        for server in self.servers.values():
            server.stop()

    def one(self, server, load, seconds):
        """One turn of one broker: what came of each phase, and the broker's processor time in it."""
        _, connections, queues, rate, phases = load
        words = [server.address, server.sasl, server.mode, server.pattern, connections, queues, seconds, rate, *phases]
        client = subprocess.Popen(
            [str(self.options.programs / "load"), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        found = {}
        try:
            for phase in phases:
                self.heard(server, load, client, "ready")
                os.sync()
                sync = disk_sync(self.folder, 25)[0]
                cpu = server.cpu()
                client.stdin.write("go\n")
                client.stdin.flush()
                came = self.heard(server, load, client, "phase")
                million = 1e6 / came["messages"]
                found[phase] = came | {
                    "rate": came["messages"] / came["seconds"],
                    "server_us": (server.cpu() - cpu) * million,
                    "client_us": came["client_cpu"] * million,
                    "sync": sync,
                }
                self.confirms[server.name] = came["is_confirmed"]
            checked = self.heard(server, load, client, "checked")["checked"]
            self.checked[server.name] = self.checked.get(server.name, 0) + checked
        finally:
            client.kill()
            client.wait()
        return found

    @staticmethod
    def heard(server, load, client, wanted):
        line = client.stdout.readline()
        if wanted == "ready" and line == "ready\n":
            return None
        told = json.loads(line) if line.startswith("{") else {}
        if wanted not in told:
            raise SystemExit(f"{server.name}, {load[0]}: {told.get('failed', 'the client died')}")
        return told

    def turn(self, name, load, seconds):
        server = self.servers[name]
        server.go_on()
        try:
            return self.one(server, load, seconds)
        finally:
            server.hold()

    def warm_up(self):
        for name in self.servers:
            for load in LOADS[1:4]:
                self.turn(name, load, self.options.warm_up)
            say(f"bench: {name} is warm")

    def syncs(self):
        """Of each broker, while one connection sends and receives."""
        found = {}
        for name, server in self.servers.items():
            if name == "null":
                continue
            server.go_on()
            load = ("1-1", 1, 1, 1, ["both"])
            found[name] = server.syncs(lambda s=server, l=load: self.one(s, l, 1)["both"]["messages"])
            server.hold()
        return found

    def alone(self):
        """What is measured of Mente only, each on a server that has nothing else."""
        if "Mente" not in self.servers:
            return
        options = self.options
        if options.backlog:
            self.waiting += self.on_its_own("backlog", lambda server: backlog.measure(server, options.backlog))
        for kinds in options.subscriptions:
            measure = lambda server, kinds=kinds: subscriptions.measure(server, "topic", kinds)
            self.matched += self.on_its_own(f"subscriptions-{kinds}", measure)
        if options.large:
            self.beside_large += self.on_its_own("large", lambda server: large.measure(server, options.large))

    def on_its_own(self, name, measure):
        folder = self.folder / name
        folder.mkdir()
        server = Mente(folder, self.options)
        try:
            lines, is_exact = measure(server)
        finally:
            server.stop()
        self.is_exact &= is_exact
        say(f"bench: {name}")
        return lines

    def rounds(self, end):
        for number in range(self.options.rounds):
            names = list(self.servers)
            # A B C, B C A, C A B: nobody is always the first.
            names = names[number % len(names) :] + names[: number % len(names)]
            for load in LOADS:
                rows = {f"{phase}-{load[0]}" for phase in load[4]}
                if self.options.rows and not rows & set(self.options.rows):
                    continue
                if time.monotonic() > end:
                    self.short.append(f"{', '.join(sorted(rows))}: {number} of {self.options.rounds} rounds")
                    continue
                for name in names:
                    for phase, came in self.turn(name, load, self.options.seconds).items():
                        row = self.results.setdefault(f"{phase}-{load[0]}", {})
                        row.setdefault(name, []).append(came)
            say(f"bench: round {number + 1} of {self.options.rounds}")


def table(bench):
    names = list(bench.servers)
    lines = [["ROW", "UNIT", *(word for name in names for word in (name.upper(), "ROUNDS")), "MENTE/ARTEMIS", "OF CEILING", "GOAL"]]
    for row, results in bench.results.items():
        is_latency = row.startswith("latency")
        what = "end_p50" if is_latency else "rate"
        line = [row, "us p50" if is_latency else "msg/s"]
        for name in names:
            turns = results.get(name, [])
            values = [turn[what] for turn in turns]
            line += [f"{statistics.median(values):.0f}", f"{min(values):.0f}-{max(values):.0f}"] if values else ["-", ""]
        line += compared(results, what, is_latency)
        lines.append(line)
    return aligned(lines)


def compared(results, what, is_latency):
    """Mente to Artemis, to what the client can do, and whether that is the goal, the lower of both."""
    if "Mente" not in results or "Artemis" not in results:
        return ["-", "-", "-"]
    ours, theirs = median(results["Mente"], what), median(results["Artemis"], what)
    syncs = [median(results[name], "sync") for name in ("Mente", "Artemis")]
    doubt = " ?" if max(syncs) > SAME_DISK * min(syncs) else ""
    ratio = theirs / ours if is_latency else ours / theirs
    if is_latency or "null" not in results:
        return [f"{ratio:.2f} x{doubt}", "-", "-"]
    ceiling = median(results["null"], what)
    goal = min(GOAL * theirs, ceiling)
    reached = "reached" if ours >= goal else f"{ours / goal:.0%} of it"
    return [f"{ratio:.2f} x{doubt}", f"{ours / ceiling:.0%}", reached]


def details(bench):
    names = list(bench.servers)
    lines = [["ROW", *(word for name in names for word in (f"{name.upper()} SRV", "CLIENT", "SYNC"))]]
    for row, results in bench.results.items():
        line = [row]
        for name in names:
            turns = results.get(name, [])
            for what in ("server_us", "client_us", "sync"):
                line.append(f"{median(turns, what):.1f}" if turns else "-")
        lines.append(line)
    late = [["ROW", *(word for name in names for word in (f"{name.upper()} P99", "MAX", "ACK P50", "ACK P99"))]]
    for row, results in bench.results.items():
        if row.startswith("latency"):
            line = [row]
            for name in names:
                turns = results.get(name, [])
                for what in ("end_p99", "end_max", "ack_p50", "ack_p99"):
                    line.append(f"{median(turns, what):.0f}" if turns else "-")
            late.append(line)
    return aligned(lines), aligned(late)


def report(bench, before, after, syncs, took):
    for name, server in bench.servers.items():
        print(f"{name}: {server.version}")
    for name, why in bench.absent.items():
        print(f"{name} is missing: {why}")
    options = bench.options
    print(
        f"\ndurable messages of 1 KiB, qpid-proton C as the client in one thread; {options.rounds} rounds of "
        f"{options.seconds} s, brokers in turn in each, medians; {took:.0f} s in all\n"
        f"disk: {filesystem(bench.folder)}; 4 KiB overwritten and synced takes {before[0]:.0f} us (p99 {before[1]:.0f}) "
        f"before, {after[0]:.0f} us (p99 {after[1]:.0f}) after\n"
    )
    print(table(bench))
    print(f"\n{MEANT}")
    print("Ratios above 1 say that Mente is the faster one. OF CEILING: of what the client does with the null server.")
    print(f"GOAL: {GOAL} times Artemis or the ceiling, whichever is lower.")
    print(f"?: the disk's own sync beside the two differed by more than {SAME_DISK} times, so that the ratio says little.\n")
    processor, late = details(bench)
    print("Processor seconds of a million messages, server and client, and a sync of 4 KiB right before, in us:\n")
    print(processor)
    if "\n" in late:
        print(f"\nLatency in us, from when a message was due to its receipt, and to its sender's answer (ACK):\n\n{late}")
    print("\nOf the disk, by strace, while one connection sends and receives (calls for 1,000 messages):")
    for name, found in syncs.items():
        confirms = "answered" if bench.confirms.get(name) else "not answered"
        print(f"- {name}: {found}. {bench.servers[name].how}. Settlements are {confirms}.")
    if bench.waiting:
        print("\nMany messages that wait in one queue of Mente, alone on the machine:")
        print("\n".join(f"- {line}" for line in bench.waiting))
    if bench.matched:
        print("\nSubscriptions of one topic of Mente, alone on the machine, each with an SQL rule of three conditions; a message matches one:")
        print("\n".join(f"- {line}" for line in bench.matched))
    if bench.beside_large:
        print("\nLarge messages of Mente, alone on the machine, and what others wait for their small ones meanwhile:")
        print("\n".join(f"- {line}" for line in bench.beside_large))
    told = ", ".join(f"{name} {count}" for name, count in bench.checked.items())
    print(f"\nEvery message that was accepted came back once, as it was sent, and no other: {told}.\n")
    print(NOT_COMPARABLE)
    for line in bench.short:
        print(f"NOT RUN, out of time: {line}")


def asked():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short turns, within eight minutes")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of one broker in one phase")
    parser.add_argument("--warm-up", type=float, help="seconds of each phase before anything is measured")
    parser.add_argument("--minutes", type=float, default=40, help="no load begins after that")
    parser.add_argument("--rows", type=lambda text: text.split(","))
    parser.add_argument("--brokers", type=lambda text: text.split(","), help=f"of {', '.join(SERVERS)}")
    parser.add_argument("--backlog", type=int, help="messages that wait at the end (default 10000000, quick 1000000)")
    parser.add_argument(
        "--subscriptions",
        type=lambda text: [int(number) for number in text.split(",") if int(number)],
        default=[1, 100, 2000],
        help="of a topic of Mente's, at the end (default 1,100,2000; 0: none)",
    )
    parser.add_argument(
        "--large",
        type=lambda text: [int(number) for number in text.split(",") if int(number)],
        default=[20, 99],
        help="MiB of large messages of Mente's, with small ones beside them, at the end (default 20,99; 0: none)",
    )
    parser.add_argument("--mente", default=str(HERE.parents[1] / "target/release/mente"))
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where data is: its disk is measured")
    options = parser.parse_args()
    options.rounds = options.rounds or 5
    options.seconds = options.seconds or (0.6 if options.quick else 3)
    options.warm_up = options.warm_up or (1 if options.quick else 4)
    if options.backlog is None:
        options.backlog = 1_000_000 if options.quick else 10_000_000
    known = {f"{phase}-{load[0]}" for load in LOADS for phase in load[4]}
    if unknown := set(options.rows or []) - known:
        parser.error(f"--rows: there is no {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    if unknown := set(options.brokers or []) - set(SERVERS):
        parser.error(f"--brokers: there is no {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    if filesystem(options.dir) in ("tmpfs", "ramfs"):
        parser.error(f"--dir: {options.dir} is in memory, and a sync costs nothing there")
    return options


def main():
    options = asked()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    folder = Path(tempfile.mkdtemp(prefix="mente-bench-", dir=options.dir))
    options.programs = folder / "programs"
    options.programs.mkdir()
    bench = Bench(options, folder)
    try:
        build(options.programs)
        before = disk_sync(folder, 300)
        bench.start()
        bench.warm_up()
        syncs = bench.syncs()
        bench.rounds(began + options.minutes * 60)
        after = disk_sync(folder, 300)
        bench.alone()
        report(bench, before, after, syncs, time.monotonic() - began)
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if not bench.is_exact:
        sys.exit("bench: what waits is not what was sent, see above")
    if bench.short or bench.absent:
        sys.exit("bench: not all was measured, see above")


if __name__ == "__main__":
    main()
