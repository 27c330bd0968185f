"""One lean client for each system, all with the same verbs.

Each thread of a load has a client of its own. What every verb does is one round trip:

append(events)                       whatever the stream's state
append_expected(event, revision)     if the stream's last revision is that one
append_after(event, tag, position)   if nothing of the event's type with this tag is behind position
append_absent(event, tag)            if nothing of the event's type with this tag is there
read_stream(stream), read_tag(tag)   all of its events, each with position, type and data in hand

A verb that fails raises; `Refused` if its condition did not hold.
"""

import json
import re
import socket
import uuid
from collections import namedtuple

# id is a number of 128 bits, data JSON as bytes.
Event = namedtuple("Event", "stream type tags id data")
TYPE = "Moved"
PAGE = 5000


class Refused(Exception):
    """The condition did not hold."""


def text_of(number):
    """The number as a UUID is written."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Mente:
    """HTTP/1.1 by hand on one kept connection: one write and, mostly, one read a call."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self.socket.close()

    def call(self, request):
        self.socket.sendall(request)
        held = self.socket.recv(1 << 16)
        end = held.find(b"\r\n\r\n")
        while end < 0:
            held += self._more()
            end = held.find(b"\r\n\r\n")
        at = held.index(b"content-length: ", 0, end) + 16
        length = int(held[at : held.index(b"\r", at)])
        have, parts = len(held) - end - 4, [held[end + 4 :]]
        while have < length:
            parts.append(self._more())
            have += len(parts[-1])
        status, body = held[9:12], b"".join(parts)
        if status == b"200":
            return body
        if status in (b"409", b"412"):
            raise Refused(body)
        raise RuntimeError(f"Mente answered {status}: {body[:300]}")

    def _more(self):
        more = self.socket.recv(1 << 18)
        if not more:
            raise RuntimeError("Mente closed the connection")
        return more

    def get(self, path):
        return self.call(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())

    def null(self):
        self.get("/livez")

    @staticmethod
    def _told(event):
        return (
            f'{{"stream":"{event.stream}","event":{{"specversion":"1.0","id":"{text_of(event.id)}",'
            f'"source":"/b","type":"{event.type}","tags":"{",".join(event.tags)}","data":{event.data.decode()}}}}}'
        )

    def _append(self, events, checks=""):
        told = ",".join(map(self._told, events))
        body = f'{{"events":[{told}]{checks}}}'.encode()
        answer = self.call(
            b"POST /store/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        # {"lastPosition":7,"repeated":false,…
        if b'"repeated":false' not in answer:
            raise RuntimeError(f"nothing was appended: {answer[:200]}")
        return int(answer[16 : answer.index(b",", 16)])

    def append(self, events):
        return self._append(events)

    def append_expected(self, event, revision):
        expected = '"none"' if revision < 0 else revision
        check = f',"checks":[{{"stream":"{event.stream}","expected":{expected}}}]'
        return self._append([event], check)

    def append_after(self, event, tag, position):
        query = f'"query":[{{"types":["{event.type}"],"tags":["{tag}"]}}]'
        return self._append([event], f',"checks":[{{{query},"after":{position}}}]')

    def append_absent(self, event, tag):
        query = f'"query":[{{"types":["{event.type}"],"tags":["{tag}"]}}]'
        return self._append([event], f',"checks":[{{{query}}}]')

    def read_stream(self, stream):
        found = json.loads(self.get(f"/streams/{stream}?limit={PAGE}"))["events"]
        return [(e["position"], e["event"]["type"], e["event"]["data"]) for e in found]

    def read_tag(self, tag):
        found = json.loads(self.get(f"/store/events?tag={tag}&limit={PAGE}"))["events"]
        return [(e["position"], e["event"]["type"], e["event"]["data"]) for e in found]

    def last_revision(self, stream):
        page = json.loads(self.get(f"/streams/{stream}?direction=backwards&limit=1"))
        return page["events"][0]["revision"]

    def last_of_tag(self, tag):
        page = json.loads(self.get(f"/store/events?tag={tag}&direction=backwards&limit=1"))
        return page["events"][0]["position"]

    def head(self):
        page = json.loads(self.get("/store/events?direction=backwards&limit=1"))
        return page.get("head", -1)

    def pages_behind(self, position):
        """Ids of all events behind a position, in pages."""
        at = position + 1
        while at is not None:
            body = self.get(f"/store/events?from={at}&limit={PAGE}")
            yield [int(i.replace(b"-", b""), 16) for i in re.findall(rb'"id":"([0-9a-f-]{36})"', body)]
            found = re.search(rb'"next":(\d+)', body[-100:])
            at = int(found[1]) if found else None


class Umadb:
    """UmaDB's own Python package: gRPC in Rust, out of reach of Python's lock while it waits.

    A stream is a tag here. All threads of a process use one client, hence one HTTP/2 connection, unless
    `own` says otherwise.
    """

    shared = {}

    def __init__(self, address, own=False):
        import umadb

        self.umadb = umadb
        if own:
            self.client = umadb.Client(f"http://{address}")
        else:
            if address not in self.shared:
                self.shared[address] = umadb.Client(f"http://{address}")
            self.client = self.shared[address]
        self.one = umadb.Event

    def close(self):
        pass

    def null(self):
        self.client.check_health()

    def _event(self, event):
        return self.one(event.type, event.data, event.tags, uuid.UUID(int=event.id))

    def append(self, events):
        return self.client.append([self._event(event) for event in events])

    def _append_if(self, event, tag, after):
        item = self.umadb.QueryItem([event.type], [tag])
        condition = self.umadb.AppendCondition(self.umadb.Query([item]), after)
        try:
            return self.client.append([self._event(event)], condition)
        except self.umadb.IntegrityError as error:
            raise Refused(error) from error

    def append_after(self, event, tag, position):
        return self._append_if(event, tag, position)

    def append_absent(self, event, tag):
        return self._append_if(event, tag, None)

    def _read(self, tag, **how):
        query = self.umadb.Query([self.umadb.QueryItem([], [tag])])
        return self.client.read(query, **how).collect_with_head()[0]

    def read_tag(self, tag):
        return [(e.position, e.event.event_type, e.event.data) for e in self._read(tag)]

    def read_stream(self, stream):
        return self.read_tag(f"s:{stream}")

    def last_of_tag(self, tag):
        return self._read(tag, backwards=True, limit=1)[0].position

    def head(self):
        return self.client.head() or 0

    def pages_behind(self, position):
        answer = self.client.read(start=position + 1)
        while page := answer.next_batch():
            yield [e.event.uuid.int for e in page]


INSERT = b"INSERT INTO events (stream, revision, type, tags, id, data) "
LAST = b"coalesce((SELECT max(revision) FROM events WHERE stream = $1), -1)"
READ = b"SELECT position, type, data, stream, revision, tags, id FROM events "
STATEMENTS = {
    b"null": b"SELECT 1",
    b"append": INSERT
    + b"SELECT $1::text, "
    + LAST
    + b" + 1, $2::text, $3::text[], $4::uuid, $5::bytea RETURNING position",
    b"expected": INSERT
    + b"SELECT $1::text, $6::bigint + 1, $2::text, $3::text[], $4::uuid, $5::bytea WHERE "
    + LAST
    + b" = $6::bigint RETURNING position",
    b"stream": READ + b"WHERE stream = $1::text ORDER BY revision",
    b"tag": READ + b"WHERE tags @> ARRAY[$1::text] ORDER BY position",
    b"revision": b"SELECT coalesce(max(revision), -1)::text FROM events WHERE stream = $1::text",
    b"head": b"SELECT coalesce(max(position), 0)::text FROM events",
}
FORMATS = [0, 0, 0, 1, 1]


class Postgres:
    """libpq itself, through psycopg's compiled wrapper: prepared statements, binary data, one each a call."""

    TABLE = b"""CREATE TABLE events (
        position bigserial PRIMARY KEY, stream text NOT NULL, revision bigint NOT NULL, type text NOT NULL,
        tags text[] NOT NULL, id uuid NOT NULL, data bytea NOT NULL, appended timestamptz NOT NULL DEFAULT now())"""
    INDEXES = (
        b"CREATE UNIQUE INDEX events_stream ON events (stream, revision)",
        b"CREATE INDEX events_tags ON events USING gin (tags)",
        b"VACUUM ANALYZE events",
        b"CHECKPOINT",
    )
    WITHOUT = (b"DROP INDEX events_stream", b"DROP INDEX events_tags")

    def __init__(self, address):
        from psycopg import pq

        if pq.__impl__ != "binary":
            raise RuntimeError(f"psycopg uses {pq.__impl__}, not its compiled wrapper")
        self.pq, self.prepared = pq, set()
        host, port = address.rsplit(":", 1)
        told = f"host={host} port={port} user=postgres dbname=postgres sslmode=disable gssencmode=disable"
        self.connection = pq.PGconn.connect(told.encode())
        if self.connection.status != pq.ConnStatus.OK:
            raise RuntimeError(self.connection.error_message)
        self.good = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_IN)

    def close(self):
        self.connection.finish()

    def _checked(self, result):
        if result.status in self.good:
            return result
        if result.error_field(self.pq.DiagnosticField.SQLSTATE) == b"23505":
            raise Refused(result.error_message)
        raise RuntimeError(f"PostgreSQL: {result.error_message}")

    def run(self, sql):
        return self._checked(self.connection.exec_(sql))

    def _call(self, name, values=(), formats=None, binary=0):
        if name not in self.prepared:
            sql = STATEMENTS.get(name) or batch_of(int(name))
            self._checked(self.connection.prepare(name, sql))
            self.prepared.add(name)
        return self._checked(self.connection.exec_prepared(name, values, formats, binary))

    def null(self):
        self._call(b"null")

    @staticmethod
    def _values(event):
        tags = "{" + ",".join(event.tags) + "}"
        id = event.id.to_bytes(16, "big")
        return [event.stream.encode(), event.type.encode(), tags.encode(), id, event.data]

    def append(self, events):
        if len(events) == 1:
            self._call(b"append", self._values(events[0]), FORMATS)
            return
        values, formats = [events[0].stream.encode()], [0]
        for event in events:
            values += self._values(event)[1:]
        formats += FORMATS[1:] * len(events)
        done = self._call(b"%d" % len(events), values, formats)
        if done.command_tuples != len(events):
            raise RuntimeError(f"{done.command_tuples} of {len(events)} appended")

    def append_expected(self, event, revision):
        values = [*self._values(event), b"%d" % revision]
        if self._call(b"expected", values, [*FORMATS, 0]).ntuples != 1:
            raise Refused("another revision")

    def _rows(self, result):
        get, number = result.get_value, int.from_bytes
        return [(number(get(r, 0), "big"), get(r, 1), get(r, 2)) for r in range(result.ntuples)]

    def read_stream(self, stream):
        return self._rows(self._call(b"stream", [stream.encode()], None, 1))

    def read_tag(self, tag):
        return self._rows(self._call(b"tag", [tag.encode()], None, 1))

    def last_revision(self, stream):
        return int(self._call(b"revision", [stream.encode()]).get_value(0, 0))

    def head(self):
        return int(self._call(b"head").get_value(0, 0))

    def pages_behind(self, position):
        while True:
            sql = b"SELECT position, id FROM events WHERE position > %d ORDER BY position LIMIT 50000"
            found = self.run(sql % position)
            if not found.ntuples:
                return
            yield [int(found.get_value(r, 1).replace(b"-", b""), 16) for r in range(found.ntuples)]
            position = int(found.get_value(found.ntuples - 1, 0))

    def load(self, events):
        """As PostgreSQL likes it best: COPY."""
        self.run(b"COPY events (stream, revision, type, tags, id, data) FROM STDIN")
        lines = (
            f"{e.stream}\t{revision}\t{e.type}\t{{{','.join(e.tags)}}}\t{text_of(e.id)}\t\\\\x{e.data.hex()}\n"
            for e, revision in events
        )
        self.connection.put_copy_data("".join(lines).encode())
        self.connection.put_copy_end()
        while result := self.connection.get_result():
            self._checked(result)


def batch_of(count):
    """One statement that appends so many events to one stream, behind its last revision."""
    rows = []
    for index in range(count):
        at = 2 + 4 * index
        rows.append(f"({index}, ${at}::text, ${at + 1}::text[], ${at + 2}::uuid, ${at + 3}::bytea)")
    return INSERT + (
        f"SELECT $1::text, last.revision + 1 + v.nth, v.type, v.tags, v.id, v.data FROM (SELECT {LAST.decode()} "
        f"AS revision) last, (VALUES {','.join(rows)}) AS v (nth, type, tags, id, data) ORDER BY v.nth"
    ).encode()


CLIENTS = {"Mente": Mente, "UmaDB": Umadb, "PostgreSQL": Postgres}
