"""Many messages that wait in one queue of Mente: what they take of memory, whether they are counted to the last
one, and how soon that is known again after a kill -9. A small AMQP client of its own, since it sends batches as
Service Bus' clients do (message-format 0x80013700)."""

import re
import socket
import struct
import time
import urllib.error
import urllib.request

BATCH = 400
BATCHES_UNDER_WAY = 16
BODY = 100
QUEUE = "backlog"
LOOKED_AT = 100
WAIT_SECONDS = 120

NULL, TRUE, FALSE, ZERO = b"\x40", b"\x41", b"\x42", b"\x43"


def uint(number):
    return b"\x70" + struct.pack(">I", number)


def text(words, code=b"\xa1"):
    return code + bytes([len(words)]) + words.encode()


def described(code, *fields):
    body = b"".join(fields)
    return b"\x00\x53" + bytes([code]) + b"\xd0" + struct.pack(">II", len(body) + 4, len(fields)) + body


def frame(body, channel=0, kind=0):
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def message(number):
    """A whole one: durable, with data that begins with its number."""
    body = struct.pack(">Q", number).ljust(BODY, b"x")
    return b"\x00\x53\x70\xc0\x02\x01\x41\x00\x53\x75\xa0" + bytes([BODY]) + body


def fields_of(body):
    """Of a performative, as far as they are numbers, booleans or short binaries: no more is looked at. Then what is
    behind it."""
    if body[3] == 0x45:
        return [], body[4:]
    at, end = (6, 5 + body[4]) if body[3] == 0xC0 else (12, 8 + struct.unpack_from(">I", body, 4)[0])
    found = []
    while at < end:
        code = body[at]
        if code in (0x40, 0x41, 0x42, 0x43):
            found.append({0x40: None, 0x41: True, 0x42: False, 0x43: 0}[code])
            at += 1
        elif code == 0x52:
            found.append(body[at + 1])
            at += 2
        elif code == 0x70:
            found.append(struct.unpack_from(">I", body, at + 1)[0])
            at += 5
        elif code == 0xA0:
            found.append(body[at + 2 : at + 2 + body[at + 1]])
            at += 2 + body[at + 1]
        else:
            break
    return found, body[end:]


class Client:
    """One connection and one link to the queue."""

    def __init__(self, address, is_sender, queue=QUEUE):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=WAIT_SECONDS)
        self.left = b""
        self.deliveries = 0
        self.socket.sendall(b"AMQP\x03\x01\x00\x00" + frame(described(0x41, text("ANONYMOUS", b"\xa3")), kind=1))
        self.exactly(8)
        while self.performative()[2] != 0x44:
            pass
        begin = frame(described(0x11, NULL, ZERO, uint(5000), uint(5000)))
        self.socket.sendall(b"AMQP\x00\x01\x00\x00" + frame(described(0x10, text("bench"))) + begin)
        self.exactly(8)
        self.attach(0, is_sender, queue)

    def attach(self, handle, is_sender, source, target=None):
        end = described(0x28, text(source)), described(0x29, text(target or source))
        role = FALSE if is_sender else TRUE
        attach = [text(f"link-{handle}"), uint(handle), role, b"\x50\x00", b"\x50\x00", *end, NULL, NULL]
        attach += [ZERO] if is_sender else []
        self.socket.sendall(frame(described(0x12, *attach)))
        self.until(0x13 if is_sender else 0x12)

    def exactly(self, count):
        while len(self.left) < count:
            more = self.socket.recv(1 << 16)
            if not more:
                raise SystemExit("backlog: the connection was closed")
            self.left += more
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def performative(self):
        """The next one, with its payload; the empty frames between are passed over."""
        while True:
            size, offset = struct.unpack(">IB", self.exactly(5))
            body = self.exactly(size - 5)[4 * offset - 5 :]
            if body:
                return body

    def until(self, wanted):
        while True:
            body = self.performative()
            if body[2] == wanted:
                return body
            if body[2] in (0x16, 0x17, 0x18):
                raise SystemExit(f"backlog: refused: {body!r}")

    def fill(self, count, batch_size=BATCH, make=message):
        """Messages that `make` makes of their numbers; all are accepted on return."""
        sent, open_batches = 0, set()
        number = self.deliveries
        while sent < count or open_batches:
            while sent < count and len(open_batches) < BATCHES_UNDER_WAY:
                size = min(batch_size, count - sent)
                whole = [make(at) for at in range(sent, sent + size)]
                batch = b"".join(b"\x00\x53\x75\xa0" + bytes([len(one)]) + one for one in whole)
                tag = b"\xa0\x04" + struct.pack(">I", number)
                transfer = described(0x14, ZERO, uint(number), tag, uint(0x80013700), FALSE, FALSE)
                self.socket.sendall(frame(transfer + batch))
                open_batches.add(number)
                number, sent = number + 1, sent + size
            body = self.until(0x15)
            _, first, last, *_ = [*fields_of(body)[0], None]
            if b"\x00\x53\x24" not in body:
                raise SystemExit(f"backlog: a batch was not accepted: {body!r}")
            open_batches.difference_update(range(first, (last if last is not None else first) + 1))
        self.deliveries = number

    def send(self, message, frame_bytes=32 << 10):
        """One that is in as many frames as it needs; it is accepted on return."""
        parts = [message[at : at + frame_bytes] for at in range(0, len(message), frame_bytes)]
        tag = b"\xa0\x04" + struct.pack(">I", self.deliveries)
        for at, part in enumerate(parts):
            more = TRUE if at + 1 < len(parts) else FALSE
            transfer = described(0x14, ZERO, uint(self.deliveries), tag, ZERO, FALSE, more)
            self.socket.sendall(frame(transfer + part))
        self.deliveries += 1
        said = self.until(0x15)
        if b"\x00\x53\x24" not in said:
            raise SystemExit(f"a message was not accepted: {said!r}")

    def first(self, count):
        """Numbers of the first messages, which are done with then."""
        flow = described(0x13, ZERO, uint(5000), ZERO, uint(5000), ZERO, ZERO, uint(count))
        self.socket.sendall(frame(flow))
        numbers = [struct.unpack(">Q", self.until(0x14)[-BODY:][:8])[0] for _ in range(count)]
        accepted = b"\x00\x53\x24\x45"
        self.socket.sendall(frame(described(0x15, TRUE, ZERO, uint(count - 1), TRUE, accepted)))
        return numbers

    def close(self):
        self.socket.close()


class Manager(Client):
    """Asks the queue's management, as clients of Service Bus do."""

    def __init__(self, address):
        node = f"{QUEUE}/$management"
        super().__init__(address, is_sender=True, queue=node)
        self.attach(1, False, node, "me")
        self.asked = 0

    def delete(self, most):
        """So many of the first messages that are there now; how many they were."""
        flow = described(0x13, uint(self.asked), uint(5000), uint(self.asked), uint(5000), uint(1), uint(self.asked), uint(1))
        properties = b"\x00\x53\x73" + described(0, text("id"), NULL, NULL, NULL, text("me"))[3:]
        operation = described(0, text("operation"), text("com.microsoft:batch-delete-messages"))[3:]
        before = b"\x83" + struct.pack(">q", int(time.time() * 1000) + 1000)
        number = b"\x71" + struct.pack(">i", most)
        body = described(0, text("message-count"), number, text("enqueued-time-utc"), before)[3:]
        # A map is laid out as a list is, but for its code.
        request = properties + b"\x00\x53\x74\xd1" + operation[1:] + b"\x00\x53\x77\xd1" + body[1:]
        tag = b"\xa0\x04" + struct.pack(">I", self.asked)
        transfer = described(0x14, ZERO, uint(self.asked), tag, ZERO, TRUE, FALSE)
        self.socket.sendall(frame(flow) + frame(transfer + request))
        self.asked += 1
        found = re.search(rb"message-count\x71(....)", self.until(0x14), re.DOTALL)
        return struct.unpack(">i", found[1])[0] if found else 0


def purge(server, count):
    """Milliseconds of one call that deletes so many, and how many it did."""
    manager = Manager(server.address)
    began = time.monotonic()
    deleted = manager.delete(count)
    took = 1000 * (time.monotonic() - began)
    manager.close()
    return took, deleted


def count_of(server):
    """Messages that are active, as administration clients are told; None while nobody answers."""
    url = f"http://127.0.0.1:{server.administration}/{QUEUE}?api-version=2021-05"
    try:
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
            said = answer.read().decode()
    except urllib.error.HTTPError as error:
        if error.code in (500, 503):
            return None
        raise SystemExit(f"backlog: no counts: {error} {error.read()[:300]!r}") from error
    except OSError:
        return None
    found = re.search(r"ActiveMessageCount>(\d+)<", said)
    if not found:
        raise SystemExit(f"backlog: no count in {said[:500]}")
    return int(found[1])


def wait_for(server, count):
    """Seconds until the count is that, and what was counted last."""
    began = time.monotonic()
    while True:
        counted, took = count_of(server), time.monotonic() - began
        if counted == count or took > WAIT_SECONDS:
            return took, counted
        time.sleep(0.005)


def measure(server, count):
    """Lines for the report. The server is a fresh one, for it alone."""
    Client(server.address, is_sender=True).close()
    wait_for(server, 0)
    time.sleep(1)
    idle = server.resident_mib()
    began = time.monotonic()
    client = Client(server.address, is_sender=True)
    client.fill(count)
    client.close()
    filled = time.monotonic() - began
    settled, counted = wait_for(server, count)
    full = server.resident_mib()
    lines = [
        f"{count} messages of {BODY} bytes sent in {filled:.0f} s, in batches of {BATCH} on one connection",
        f"counted {settled:.1f} s later: {counted}{'' if counted == count else ', WHICH IS NOT EXACT'}",
        f"resident: {idle:.0f} MiB idle, {full:.0f} MiB then ({full - idle:+.0f} MiB; 64 MB are the goal)",
    ]
    server.kill()
    began = time.monotonic()
    server.begin()
    greeted = time.monotonic() - began
    wait_for(server, count)
    ready, counted = time.monotonic() - began, count_of(server)
    again = server.resident_mib()
    client = Client(server.address, is_sender=False)
    numbers = client.first(LOOKED_AT)
    left = wait_for(server, count - LOOKED_AT)[1]
    client.close()
    is_first = numbers == list(range(LOOKED_AT))
    lines += [
        f"after kill -9: AMQP answers after {greeted:.2f} s, all are counted after {ready:.2f} s (2 s are the goal): {counted}",
        f"resident then: {again:.0f} MiB; the first {LOOKED_AT} are {'what was sent first' if is_first else f'NOT WHAT WAS SENT: {numbers[:5]}'}",
    ]
    few, more = purge(server, 4000), purge(server, count)
    deleted = few[1] + more[1]
    is_all = deleted == left == count - LOOKED_AT and wait_for(server, 0)[1] == 0
    lines.append(
        f"{few[1]} purged in {few[0]:.0f} ms, the other {more[1]} in {more[0]:.0f} ms (100 ms are the goal), by one call each"
        f"{'' if is_all else f', OF {left}'}"
    )
    return lines, counted == count and is_first and is_all
