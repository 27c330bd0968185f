"""Mente's event store beside UmaDB and PostgreSQL: one machine, one disk, one client language, durable on
acknowledge, all systems in turn in one run.

usage: run.py [--quick] [--events N] [--grown N] [--rounds N] [--seconds S] [--rows A,B] [--mente FILE] [--dir DIR]

Packages in requirements.txt; `cargo xtask long bench-eventstore` sees to them.
"""

import argparse
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from pathlib import Path

from clients import TYPE, Event, Refused
from servers import SERVERS, missing
from worker import LENGTH, id_of, payloads

from beside import aligned, disk_sync, filesystem, median, say

HERE = Path(__file__).parent
SYSTEMS = list(SERVERS)
PROCESSES = 2
BATCH = 100
# Ratio of two syncs up to which a disk was the same for two systems.
SAME_DISK = 1.5
# Threads of each of these processes while a store is loaded.
LOADERS = 16
# Events that one turn appends at most, so that the stores stay of one size.
MOST = 200_000

# Name, kind of call, clients, batch, what it is.
ROWS = [
    ("null-1", "null", 1, 1, "a call of nothing: the client's own ceiling"),
    ("null-32", "null", 32, 1, ""),
    ("null-256", "null", 256, 1, ""),
    ("read-stream-1", "read-stream", 1, 1, f"one stream of {LENGTH} events that lie everywhere, each decoded"),
    ("read-stream-32", "read-stream", 32, 1, ""),
    ("read-tag-1", "read-tag", 1, 1, f"the {LENGTH} events of one tag, of {LENGTH} streams, each decoded"),
    ("read-tag-32", "read-tag", 32, 1, ""),
    ("append-1", "append", 1, 1, "one event, no condition"),
    ("append-32", "append", 32, 1, ""),
    ("append-256", "append", 256, 1, ""),
    ("expected-1", "expected", 1, 1, "if the stream's last revision is the one that was said"),
    ("expected-32", "expected", 32, 1, ""),
    ("boundary-1", "boundary", 1, 1, "if nothing of a type and a tag came behind a position (DCB)"),
    ("boundary-32", "boundary", 32, 1, ""),
    ("absent-1", "absent", 1, 1, "if nothing of a type and a tag is in the whole store (DCB)"),
    ("absent-32", "absent", 32, 1, ""),
    ("batch-1", "batch", 1, BATCH, f"{BATCH} events of one stream, all or nothing"),
    ("batch-8", "batch", 8, BATCH, ""),
]
# What is measured again in the store that has grown.
GROWN = ("read", "append", "expected", "boundary", "absent")
LACKS = {"expected": ["UmaDB"], "boundary": ["PostgreSQL"], "absent": ["PostgreSQL"]}

NOT_COMPARABLE = """\
Of unlike things, and whom it favours:
- UmaDB has no streams: a stream is a tag there. Mente and PostgreSQL are given that tag too and keep stream and
  revision beside it, one index more (for UmaDB). So is UmaDB's read of a stream one of a tag.
- PostgreSQL's positions are taken before the commit: a reader that follows them may pass over an event that
  commits later. Mente and UmaDB promise one order without holes in time; in PostgreSQL that takes a lock around
  every append, which this table does not (for PostgreSQL, most of all with 32 and 256 clients).
- PostgreSQL could check a boundary under SERIALIZABLE or with a lock; that is another program, and not a row.
- Mente's event is a CloudEvent: specversion, source and the names of all attributes are in every request, answer
  and record, as JSON text, and are checked. UmaDB takes bytes in protobuf, PostgreSQL binary parameters of a
  prepared statement (for UmaDB and PostgreSQL: bytes and processor).
- Mente and UmaDB know an append again that is repeated with its ids: Mente by default, UmaDB if its condition
  fails. PostgreSQL's table has the id in no index (for PostgreSQL).
- UmaDB indexes no types; every condition and read here names a tag, which is what it is good at (for UmaDB).
- The clients differ: a raw socket and JSON in Python for Mente, Rust behind Python for UmaDB, C (libpq) for
  PostgreSQL. Reads are decoded into Python by each, most dearly by Mente's, in JSON. The calls of nothing, and the
  processor time of client and server, tell how much of a row is the client.
- UmaDB's client is shared by the threads of a process, two HTTP/2 connections in all, which was the faster way;
  Mente and PostgreSQL have a connection for each of 32 and 256 clients, as their users have.
- PostgreSQL was given memory and a longer WAL; Mente and UmaDB run as they come.
- Clients and servers share the processors, so a server that needs less of them leaves more to its client.
- Idle servers are stopped, so each does its background work in its own time; what the kernel writes later is
  synced before the next turn, outside what is measured (for who leaves more for later: PostgreSQL its
  tables, Mente its packs and index; UmaDB writes all before it answers).
- How the store came to be tells in reads of Mente: events that are found one by one take a whole batch of the
  log each, so those that came 1000 an append are several times dearer than those that came 10 an append (--load-batch;
  UmaDB and PostgreSQL do not mind).
- Data fit into memory here; nothing is said of a store that does not. One disk, one node, no replication."""


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.streams = options.events // LENGTH
        self.servers, self.absent, self.turn = {}, {}, 0
        self.results, self.checked, self.short = {}, Counter(), []
        self.documents = payloads(options.payload)
        # What is loaded and read now: at first all that there is, then all that came later.
        self.part, self.held = "load", 0
        self.loads, self.before = {}, None

    def start(self):
        for name in SYSTEMS:
            why = missing(name, self.options)
            if why:
                self.absent[name] = why
                say(f"bench: {name} is missing: {why}")
                continue
            self.servers[name] = SERVERS[name](self.folder, self.options)
            self.servers[name].hold()
        if "Mente" not in self.servers:
            raise SystemExit(f"Mente is missing: {self.absent['Mente']}")

    def stop(self):
        for server in self.servers.values():
            server.stop()

    def worker(self, **told):
        process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        told |= {"payload": self.options.payload, "streams": self.streams, "part": self.part}
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        return process

    def grow(self):
        """The same stores become large: what comes lies everywhere behind what is there."""
        self.before = self.results, self.loads
        self.results, self.loads = {}, {}
        self.held, self.part = self.options.events, "grown"
        self.streams = (self.options.grown - self.held) // LENGTH
        self.load()

    def load(self):
        events = self.streams * LENGTH
        for name, server in self.servers.items():
            server.go_on()
            client = server.client()
            behind = client.head()
            client.close()
            before = time.monotonic()
            told = {"kind": "fill", "system": name, "address": server.address, "events": events, "before": self.held}
            if name == "PostgreSQL":
                # COPY is one connection's, in order; how much of it is one transaction leaves no trace.
                step, told = 1, told | {"batch": 1000, "threads": 1}
            else:
                step, told = PROCESSES, told | {"batch": self.options.load_batch, "threads": LOADERS}
            if self.held and name == "PostgreSQL":
                server.unload()
            fillers = [self.worker(**told, first=first, step=step) for first in range(step)]
            ends = [filler.communicate()[0].strip() for filler in fillers]
            if ends != ["done"] * step:
                raise SystemExit(f"the store of {name} could not be loaded: {ends}")
            if name == "PostgreSQL":
                server.loaded()
            took = time.monotonic() - before
            client = server.client()
            held = sum(len(page) for page in client.pages_behind(behind))
            client.close()
            if held != events:
                raise SystemExit(f"{name} holds {held} events of {events} that were loaded")
            os.sync()
            self.loads[name] = (took, server.disk_mib(), server.resident_mib())
            server.hold()
            say(f"bench: {name} holds {held} events more after {took:.0f} s")

    def probe(self):
        """Conditions that do not hold are refused, so that a row of conditions is one."""
        for name, server in self.servers.items():
            server.go_on()
            client = server.client()
            before = client.head()

            def event(count, stream="probe-1", more=()):
                return Event(stream, TYPE, [f"s:{stream}", *more], id_of(0xFFFF, 0, count), self.documents[0])

            def refused(call, *told):
                try:
                    call(*told)
                except Refused:
                    return
                raise SystemExit(f"{name} appended what its condition forbids: {call.__name__}")

            client.append([event(0)])
            if name != "UmaDB":
                client.append_expected(event(1), 0)
                refused(client.append_expected, event(2), 0)
                refused(client.append_expected, event(2), 7)
            if name != "PostgreSQL":
                last = client.append_after(event(3), "s:probe-1", client.last_of_tag("s:probe-1"))
                refused(client.append_after, event(4), "s:probe-1", last - 1)
                refused(client.append_absent, event(5), "s:probe-1")
                client.append_absent(event(6, "probe-2", ["u:1"]), "u:1")
                refused(client.append_absent, event(7, "probe-2", ["u:1"]), "u:1")
                refused(client.append_after, event(7), "s:load-0", 0)
            batch = [event(10 + count, "probe-3") for count in range(BATCH)]
            client.append(batch)
            read = client.read_stream("probe-3")
            wanted = {"Mente": 103, "UmaDB": 103, "PostgreSQL": 102}[name]
            wanted += name == "Mente"
            held = [id for page in client.pages_behind(before) for id in page]
            if len(read) != BATCH or len(held) != wanted or len(set(held)) != wanted:
                raise SystemExit(f"{name} holds {len(held)} events of {wanted} that were acknowledged")
            client.close()
            server.hold()

    def syncs(self):
        found = {}
        for name, server in self.servers.items():
            server.go_on()
            turn = self.turn = self.turn + 1

            def make(count, turn=turn):
                stream = f"sync-{turn}"
                tags = [f"s:{stream}", f"g:{stream}"]
                return Event(stream, TYPE, tags, id_of(turn, 0, count), self.documents[count % 1000])

            found[name] = server.syncs(200, make)
            server.hold()
        return found

    def one(self, row, name, turn):
        """One turn of one system: p50, p99, calls, events a second, processor of server and client a call."""
        _, kind, clients, batch, _ = row
        server = self.servers[name]
        server.go_on()
        try:
            return self.measured(row, server, turn, kind, clients, batch)
        finally:
            server.hold()

    def measured(self, row, server, turn, kind, clients, batch):
        client = server.client()
        before = client.head()
        client.close()
        processes = min(PROCESSES, clients)
        share, workers = clients // processes, []
        told = {
            "kind": kind,
            "system": server.name,
            "address": server.address,
            "turn": turn,
            "batch": batch,
            "threads": share,
            "seconds": self.options.seconds,
            "most": sys.maxsize if kind.startswith(("null", "read")) else MOST // clients,
            "first_stream": self.first_stream(row),
        }
        try:
            for number in range(processes):
                workers.append(self.worker(**told, first_client=number * share))
            for worker in workers:
                if worker.stdout.readline() != "ready\n":
                    raise SystemExit(f"{server.name}, {row[0]}: a client could not begin")
            os.sync()
            sync = disk_sync(self.folder, 25)[0]
            cpu = server.cpu()
            for worker in workers:
                worker.stdin.write("go\n")
                worker.stdin.flush()
            answers = [json.loads(worker.stdout.readline() or "{}") for worker in workers]
            cpu = server.cpu() - cpu
        finally:
            for worker in workers:
                worker.stdin.close()
                worker.stdout.read()
                worker.wait()
        for answer in answers:
            if "times" not in answer:
                raise SystemExit(f"{server.name}, {row[0]}: {answer.get('failures', 'a client died')}")
        times = array("Q")
        for answer in answers:
            times.frombytes(base64.b64decode(answer["times"]))
        times = sorted(times)
        done = {client: count for answer in answers for client, count in answer["done"].items()}
        total = sum(done.values())
        wall = max(a["ended"] for a in answers) - min(a["begun"] for a in answers)
        self.check(row, server, before, turn, done if not kind.startswith(("null", "read")) else {})
        calls = len(times)
        return {
            "p50": times[calls // 2] / 1000,
            "p99": times[calls * 99 // 100] / 1000,
            "rate": total / wall,
            "calls": calls,
            "sync": sync,
            "server": cpu / calls * 1e6,
            "client": sum(a["cpu"] for a in answers) / calls * 1e6,
        }

    def check(self, row, server, before, turn, done):
        """Every event that was acknowledged is there, once, and nothing else came."""
        client = server.client()
        wanted = {id_of(turn, int(number), count) for number, most in done.items() for count in range(most)}
        held, extra = 0, 0
        for page in client.pages_behind(before):
            for id in page:
                held += 1
                if id in wanted:
                    wanted.discard(id)
                else:
                    extra += 1
        client.close()
        if wanted or extra:
            raise SystemExit(
                f"{server.name}, {row[0]}: {held} events held, {len(wanted)} of those acknowledged are missing, "
                f"{extra} are unknown or there twice"
            )
        self.checked[server.name] += held

    def first_stream(self, row):
        """Loaded streams that only this row appends to."""
        first = 0
        for name, kind, clients, *_ in ROWS:
            if name == row[0]:
                return first
            if kind in ("expected", "boundary"):
                first += clients
        raise ValueError(row)

    def rows(self, end):
        for row in ROWS:
            if self.options.rows and row[0] not in self.options.rows:
                continue
            if self.before and not row[1].startswith(GROWN):
                continue
            results = self.results[row[0]] = {name: [] for name in self.servers}
            for number in range(self.options.rounds):
                if time.monotonic() > end:
                    self.short.append(f"{row[0]}: {number} of {self.options.rounds} rounds")
                    break
                self.turn += 1
                # A B C, B C A, C A B: nobody is always the first.
                names = list(self.servers)
                names = names[number % len(names) :] + names[: number % len(names)]
                for name in names:
                    if name not in LACKS.get(row[1], []):
                        results[name].append(self.one(row, name, self.turn))
            say(f"bench: {row[0]}{' in the large store' if self.before else ''}")


def spread(turns, what):
    values = [turn[what] for turn in turns]
    return f"{min(values):.0f}-{max(values):.0f}"


def doubt(results, other, kind):
    """A mark if the disk was not the same for both while they appended."""
    if kind.startswith(("null", "read")):
        return ""
    syncs = [median(results[name], "sync") for name in ("Mente", other)]
    return " ?" if max(syncs) > SAME_DISK * min(syncs) else ""


def table(bench, found):
    """Columns as wide as they need."""
    names = list(bench.servers)
    others = [name for name in names if name != "Mente"]
    head = ["ROW", "UNIT"]
    for name in names:
        head += [name.upper(), "ROUNDS", "P99"]
    head += [f"MENTE/{name.upper()}" for name in others]
    lines = [head]
    for name, kind, clients, *_ in ROWS:
        results = found.get(name)
        if not results or not results["Mente"]:
            continue
        what = "p50" if clients == 1 and kind != "batch" else "rate"
        unit = "us p50" if what == "p50" else "calls/s" if kind == "null" else "events/s"
        line = [name, unit]
        for system in names:
            turns = results[system]
            if turns:
                line += [f"{median(turns, what):.0f}", spread(turns, what), f"{median(turns, 'p99'):.0f} us"]
            else:
                line += ["-", "", ""]
        for system in others:
            if not results[system]:
                line.append("-")
                continue
            ours, theirs = median(results["Mente"], what), median(results[system], what)
            ratio = theirs / ours if what == "p50" else ours / theirs
            line.append(f"{ratio:.2f} x{doubt(results, system, kind)}")
        lines.append(line)
    return lines


def costs(bench, found):
    names = list(bench.servers)
    lines = [["ROW", *(f"{name.upper()} SRV  CLIENT  SYNC" for name in names)]]
    for name, *_ in ROWS:
        results = found.get(name)
        if results and results["Mente"]:
            told = (
                "  ".join(f"{median(t, what):.0f}" for what in ("server", "client", "sync")) if t else "-"
                for t in (results[system] for system in names)
            )
            lines.append([name, *told])
    return lines


def grown(bench, small, large):
    """What each system's rows became."""
    names = list(bench.servers)
    lines = [["ROW", "UNIT", *(f"{name.upper()}: SMALL, LARGE" for name in names)]]
    for name, kind, clients, *_ in ROWS:
        if not large.get(name) or not small.get(name) or not large[name]["Mente"]:
            continue
        what = "p50" if clients == 1 else "rate"
        line = [name, "us p50" if what == "p50" else "events/s"]
        for system in names:
            turns = [results[name][system] for results in (small, large)]
            if not all(turns):
                line.append("-")
                continue
            figures = [median(some, what) for some in turns]
            slower = figures[1] / figures[0] if what == "p50" else figures[0] / figures[1]
            line.append(f"{figures[0]:.0f}, {figures[1]:.0f} ({slower:.2f} x as long)")
        lines.append(line)
    return lines


def loads(bench, found):
    for name, (seconds, disk, memory) in found.items():
        print(f"- {name}: {seconds:.0f} s, {disk:.0f} MiB on the disk (what is taken in advance included), {memory:.0f} MiB of memory")


def report(bench, before, after, syncs, took):
    options = bench.options
    small, small_loads = bench.before or (bench.results, bench.loads)
    if options.quick:
        print("A smoke: a small store and short rounds, whose figures say little.\n")
    for name in SYSTEMS:
        server = bench.servers.get(name)
        print(f"{name}: {server.version}" if server else f"{name}: MISSING, {bench.absent[name]}")
    print(
        f"\n{options.events} events loaded, {options.events // LENGTH} streams of {LENGTH}, data of {options.payload} bytes, two tags "
        f"each, {options.load_batch} an append; {options.rounds} rounds of {options.seconds:g} s, systems in turn in each; {PROCESSES} client processes "
        f"of threads; {took:.0f} s in all"
    )
    print(f"disk: {filesystem(bench.folder)}; 4 KiB overwritten and synced takes {before[0]:.0f} us (p99 {before[1]:.0f}) before, ", end="")
    print(f"{after[0]:.0f} us (p99 {after[1]:.0f}) after\n")
    print(aligned(table(bench, small)))
    print("\nRatios above 1 say that Mente is the faster one: of times theirs / Mente's, of rates Mente's / theirs.")
    print(f"?: the disk's own sync beside the two differed by more than {SAME_DISK:g} times, so that the ratio says little.")
    for name, _, _, _, what in ROWS:
        if what and name in small:
            print(f"{name.removesuffix('-1')}: {what}")
    print("\nProcessor time of one call, server and client, and a sync of 4 KiB right before the turns, each in us:\n")
    print(aligned(costs(bench, small)))
    print("\nWhat an acknowledged append waits for, by strace while one client appends 200 events, one each:")
    for name, server in bench.servers.items():
        print(f"- {name}: {syncs[name]} an append. {server.how}")
    print("\nThe store once it was loaded (no row: COPY and indexes later for PostgreSQL, appends of 32 clients for the others):")
    loads(bench, small_loads)
    if bench.before:
        print(f"\nThe same stores grown to {options.grown} events; reads are of what came then, {bench.streams} streams of {LENGTH}:\n")
        print(aligned(table(bench, bench.results)))
        print("\nWhat each row is in the small store and in the large one:\n")
        print(aligned(grown(bench, small, bench.results)))
        print(f"\nGrown by {bench.streams * LENGTH} events (PostgreSQL: its indexes dropped before and made anew behind):")
        loads(bench, bench.loads)
    held = ", ".join(f"{name} {count}" for name, count in bench.checked.items())
    print(f"\nChecked after every turn by the ids: all that was acknowledged is there once, nothing else ({held}).")
    print("Every read was of as many events as are there, in order; conditions that do not hold were refused.\n")
    print(NOT_COMPARABLE)
    for line in bench.short:
        print(f"NOT RUN, out of time: {line}")


def asked():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke: a small store, short rounds")
    parser.add_argument("--events", type=int, help="how many are loaded (default 1000000, quick 20000; at most 10000000)")
    parser.add_argument("--grown", type=int, metavar="N", help="then so many, of which append, read and absent are measured again")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of one system in one round")
    parser.add_argument("--minutes", type=float, default=23, help="no round begins after that; once a store has grown so many again")
    parser.add_argument("--payload", type=int, default=256, help="bytes of an event's data")
    parser.add_argument("--load-batch", type=int, default=10, help="events of one append while the store is loaded")
    parser.add_argument("--rows", type=lambda text: text.split(","))
    parser.add_argument("--mente", default=str(HERE.parents[1] / "target/release/mente"))
    parser.add_argument("--umadb", metavar="FLAGS", help="more flags of UmaDB's server")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where data is: its disk is measured")
    options = parser.parse_args()
    options.events = options.events or (20_000 if options.quick else 1_000_000)
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.seconds = options.seconds or (0.25 if options.quick else 4)
    if not 20_000 <= options.events <= 10_000_000:
        parser.error("--events: 20000 to 10000000")
    if options.grown is not None and not options.events + 20_000 <= options.grown <= 10_000_000:
        parser.error("--grown: more than 20000 above --events, 10000000 at most")
    unknown = set(options.rows or []) - {row[0] for row in ROWS}
    if unknown:
        parser.error(f"--rows: there is no {', '.join(unknown)}; there are {', '.join(row[0] for row in ROWS)}")
    if filesystem(options.dir) in ("tmpfs", "ramfs"):
        parser.error(f"--dir: {options.dir} is in memory, and a sync costs nothing there")
    return options


def main():
    options = asked()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    folder = Path(tempfile.mkdtemp(prefix="mente-bench-", dir=options.dir))
    # PostgreSQL is another user.
    folder.chmod(0o711)
    bench = Bench(options, folder)
    try:
        before = disk_sync(folder, 300)
        bench.start()
        bench.load()
        bench.probe()
        syncs = bench.syncs()
        bench.rows(began + options.minutes * 60)
        if options.grown:
            bench.grow()
            bench.rows(time.monotonic() + options.minutes * 60)
        after = disk_sync(folder, 300)
        report(bench, before, after, syncs, time.monotonic() - began)
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if bench.short or bench.absent:
        sys.exit("bench: not all was measured, see above")


if __name__ == "__main__":
    main()
