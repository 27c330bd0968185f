"""Large messages there and back, one after the other, and how long the small ones of somebody else take meanwhile."""

import multiprocessing
import statistics
import struct
import time

import backlog
from backlog import TRUE, ZERO, described, fields_of, frame, uint
from subscriptions import ask, described as declared

MIB = 1 << 20
QUEUE, OTHER = "large", "small"
MOST = "<MaxMessageSizeInKilobytes>102400</MaxMessageSizeInKilobytes>"
SMALL = 1024
PAUSE = 0.005
QUIET_SECONDS = 10
# In each direction, so that there are enough small ones beside them.
TOGETHER = 400 * MIB
ACCEPTED = b"\x00\x53\x24\x45"
WINDOW = 5000


def small_one(_):
    return b"\x00\x53\x70\xc0\x02\x01\x41\x00\x53\x75\xb0" + struct.pack(">I", SMALL) + bytes(SMALL)


def send_small(address, over, told):
    """One at a time, with a pause, each accepted before the next: when each was sent, and what it took."""
    client = backlog.Client(address, is_sender=True, queue=OTHER)
    took = []
    while not over.is_set():
        began = time.monotonic()
        client.send(small_one(0))
        took.append((began, time.monotonic() - began))
        time.sleep(PAUSE)
    client.close()
    told.put(took)


def beside(server, work):
    """Seconds that `work` took, and the milliseconds, p50 and p99, of small messages meanwhile."""
    over, told = multiprocessing.Event(), multiprocessing.Queue()
    other = multiprocessing.Process(target=send_small, args=(server.address, over, told))
    other.start()
    time.sleep(1)
    began = time.monotonic()
    work()
    ended = time.monotonic()
    over.set()
    took = sorted(1000 * took for sent, took in told.get() if began <= sent < ended)
    other.join()
    return ended - began, statistics.median(took), took[len(took) * 99 // 100]


def receive(client, size, count):
    """Whether each has the size of what was sent: that it is what was sent is the server's checksum."""
    frames, is_exact = 0, True
    for number in range(count):
        flow = described(0x13, uint(frames), uint(WINDOW), ZERO, uint(WINDOW), ZERO, uint(number), uint(1))
        client.socket.sendall(frame(flow))
        came, more = 0, True
        while more:
            fields, payload = fields_of(client.until(0x14))
            more = bool(dict(enumerate(fields)).get(5))
            frames, came = frames + 1, came + len(payload)
        is_exact &= size <= came <= size + 1024
        client.socket.sendall(frame(described(0x15, TRUE, uint(number), uint(number), TRUE, ACCEPTED)))
    return is_exact


def measure(server, megabytes):
    """Lines for the report, and whether all came back. The server is a fresh one, for it alone."""
    ask(server, QUEUE, declared("QueueDescription", MOST))
    ask(server, OTHER, declared("QueueDescription"))
    _, p50, alone = beside(server, lambda: time.sleep(QUIET_SECONDS))
    lines = [f"small ones of 1 KiB alone: p50 {p50:.1f} ms, p99 {alone:.1f} ms"]
    is_exact = True
    for size in megabytes:
        count = max(3, TOGETHER // (size * MIB))
        body = bytes(range(256)) * (size * MIB // 256)
        sender = backlog.Client(server.address, is_sender=True, queue=QUEUE)
        receiver = backlog.Client(server.address, is_sender=False, queue=QUEUE)

        def there():
            for _ in range(count):
                sender.send(b"\x00\x53\x70\xc0\x02\x01\x41\x00\x53\x75\xb0" + struct.pack(">I", len(body)) + body)

        def back():
            nonlocal is_exact
            is_exact &= receive(receiver, len(body), count)

        for way, work in (("sent", there), ("received", back)):
            took, p50, p99 = beside(server, work)
            lines.append(
                f"{count} of {size} MiB {way} at {count * size / took:.0f} MiB/s: small ones p50 {p50:.1f} ms, "
                f"p99 {p99:.1f} ms, {p99 / alone:.1f} x alone (2 x is the goal)"
            )
        sender.close()
        receiver.close()
    if not is_exact:
        lines.append("WHAT CAME BACK IS NOT WHAT WAS SENT")
    return lines, is_exact
