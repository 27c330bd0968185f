"""One process of a load: so many threads, each with a connection and a closed loop.

Its standard input holds one JSON line that says what to do; it answers `ready`, goes at the next line, answers
with one JSON line, and keeps its connections until the line after that.
"""

import base64
import json
import os
import random
import sys
import threading
import time
from array import array

from clients import CLIENTS, TYPE, Event

# Of one stream, and of one tag g:…
LENGTH = 100


def payloads(size):
    """A thousand JSON documents of that size whose text does not pack well."""
    some = random.Random(7)
    documents = []
    for number in range(1000):
        head = f'{{"amount":{number},"note":"'
        fill = "".join(some.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=size - len(head) - 2))
        documents.append(f'{head}{fill}"}}'.encode())
    return documents


def id_of(turn, client, count):
    return turn << 96 | client << 64 | count


def loaded(number, streams, part="load"):
    """The events of a part of the store: those of one stream and those of one tag g:… lie everywhere in it."""
    stream, revision = number % streams, number // streams
    group = (stream + revision * 37) % streams
    return f"{part}-{stream}", [f"s:{part}-{stream}", group_of(part, group)], revision


def group_of(part, group):
    return f"g:{group}" if part == "load" else f"g:{part}-{group}"


class Load:
    def __init__(self, told, client, documents):
        self.kind, self.turn, self.streams = told["kind"], told["turn"], told["streams"]
        self.part = told["part"]
        self.client, self.documents, self.count = client, documents, 0
        self.db = CLIENTS[told["system"]](told["address"])
        self.batch = told["batch"]
        self.random = random.Random(self.turn << 16 | client)
        # A loaded stream that no other client and no reader has.
        self.stream = f"load-{told['first_stream'] + client}"
        if self.kind == "expected":
            self.last = self.db.last_revision(self.stream)
        elif self.kind == "boundary":
            self.last = self.db.last_of_tag(f"s:{self.stream}")
        # Connected, prepared and answered once.
        self.db.null()

    def event(self, stream=None, more=()):
        count = self.count
        self.count = count + 1
        part = f"{self.turn}-{self.client}-{count // LENGTH}"
        stream = stream or f"new-{part}"
        tags = [f"s:{stream}", f"g:new-{part}", *more]
        return Event(stream, TYPE, tags, id_of(self.turn, self.client, count), self.documents[count % 1000])

    def prepare(self):
        """The next call, and of how many events it is."""
        kind, db = self.kind, self.db
        if kind == "null":
            return db.null, 1
        if kind == "append":
            event = self.event()
            return lambda: db.append([event]), 1
        if kind == "batch":
            events = [self.event() for _ in range(self.batch)]
            return lambda: db.append(events), self.batch
        if kind == "expected":
            event = self.event(self.stream)
            return lambda: db.append_expected(event, self.last), 1
        if kind == "boundary":
            event = self.event(self.stream)
            return lambda: db.append_after(event, event.tags[0], self.last), 1
        if kind == "absent":
            name = f"u:{self.turn}-{self.client}-{self.count}"
            event = self.event(more=[name])
            return lambda: db.append_absent(event, name), 1
        # Of the half that nobody appends to.
        number = self.random.randrange(self.streams // 2, self.streams)
        if kind == "read-stream":
            return lambda: db.read_stream(f"{self.part}-{number}"), LENGTH
        if kind == "read-tag":
            return lambda: db.read_tag(group_of(self.part, number)), LENGTH
        raise ValueError(kind)

    def run(self, seconds, most):
        self.times, self.done = array("Q"), 0
        self.begun = time.monotonic()
        end = self.begun + seconds
        while time.monotonic() < end and self.done < most:
            call, events = self.prepare()
            before = time.perf_counter_ns()
            answer = call()
            self.times.append(time.perf_counter_ns() - before)
            self.done += events
            if self.kind == "expected":
                self.last += 1
            elif self.kind == "boundary":
                self.last = answer
            elif self.kind.startswith("read"):
                places = [position for position, _, _ in answer]
                if len(places) != LENGTH or places != sorted(set(places)):
                    raise RuntimeError(f"{len(places)} events read, {LENGTH} are there")
        self.ended = time.monotonic()


def fill(told, documents):
    """Loads a part of the store: every batch whose number is this process's, by several connections at once."""
    events, streams, batch = told["events"], told["streams"], told["batch"]
    part, before = told["part"], told["before"]
    firsts, lock, failures = iter(range(told["first"] * batch, events, told["step"] * batch)), threading.Lock(), []

    def work(db):
        while not failures:
            with lock:
                first = next(firsts, None)
            if first is None:
                return
            some = []
            for number in range(first, min(first + batch, events)):
                stream, tags, revision = loaded(number, streams, part)
                event = Event(stream, TYPE, tags, id_of(0, 0, before + number), documents[number % 1000])
                some.append((event, revision))
            if hasattr(db, "load"):
                db.load(some)
            else:
                db.append([event for event, _ in some])

    def safely(db):
        try:
            work(db)
        except Exception as error:
            failures.append(repr(error))

    # Made here: the package umadb wants to be loaded by the first thread.
    clients = [CLIENTS[told["system"]](told["address"]) for _ in range(told["threads"])]
    threads = [threading.Thread(target=safely, args=(db,)) for db in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures[0] if failures else "done"


def main():
    told = json.loads(sys.stdin.readline())
    documents = payloads(told["payload"])
    if told["kind"] == "fill":
        print(fill(told, documents), flush=True)
        os._exit(0)
    clients = range(told["first_client"], told["first_client"] + told["threads"])
    loads = [Load(told, client, documents) for client in clients]
    go, failures = threading.Event(), []

    def work(load):
        go.wait()
        try:
            load.run(told["seconds"], told["most"])
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(load,), daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    go.set()
    for thread in threads:
        thread.join()
    cpu = time.process_time() - cpu
    if failures:
        print(json.dumps({"failures": failures[:3]}), flush=True)
    else:
        times = array("Q")
        for load in loads:
            times.extend(load.times)
        answer = {
            "cpu": cpu,
            "begun": min(load.begun for load in loads),
            "ended": max(load.ended for load in loads),
            "done": {load.client: load.done for load in loads},
            "times": base64.b64encode(times.tobytes()).decode(),
        }
        print(json.dumps(answer), flush=True)
    sys.stdin.readline()
    # UmaDB's client has threads of its own that need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
