"""Senders and receivers over the deaths of their server, with azure-servicebus as it is published.

kills.py QUEUE: works until a line comes in, then takes what is left; one line for every law that is broken, at last
the counts. The environment has the connection string, MENTE_SERVICEBUS. Each client is made anew after an error, and
nothing is sent twice: what is there twice, the server did."""

import logging
import os
import sys
import threading
import time

from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import MessageLockLostError

SENDERS = 2
RECEIVERS = 2
BATCH = 20
# What is left when nothing was completed for so long, with the server alive, is lost.
STILL_SECONDS = 60


class Books:
    """What clients did and were told."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = set()
        self.accepted = set()
        # When it was answered, by message.
        self.completed = {}
        # A completion is under way, or had no answer.
        self.unsure = set()
        self.broken = []

    def left(self):
        with self.lock:
            return self.accepted - self.completed.keys() - self.unsure


def keep_on(over, work):
    """Does it again with a client of its own, until it is over."""
    while not over.is_set():
        try:
            with ServiceBusClient.from_connection_string(os.environ["MENTE_SERVICEBUS"], retry_total=0) as client:
                work(client)
        except Exception:
            time.sleep(0.2)


def send(books, queue, name, over):
    number = 0

    def work(client):
        nonlocal number
        with client.get_queue_sender(queue) as sender:
            while not over.is_set():
                ids = [f"{name}-{number + at}" for at in range(BATCH)]
                number += BATCH
                with books.lock:
                    books.sent.update(ids)
                sender.send_messages([ServiceBusMessage(id, message_id=id) for id in ids])
                with books.lock:
                    books.accepted.update(ids)
                time.sleep(0.15)

    keep_on(over, work)


def receive(books, queue, over):
    def work(client):
        with client.get_queue_receiver(queue) as receiver:
            while not over.is_set():
                began = time.monotonic()
                for message in receiver.receive_messages(max_message_count=50, max_wait_time=1):
                    complete(books, receiver, message, began)

    keep_on(over, work)


def complete(books, receiver, message, began):
    id = str(message)
    with books.lock:
        if books.completed.get(id, began) < began:
            books.broken.append(f"{id} came again, and was completed")
        if id not in books.sent:
            books.broken.append(f"{id} was never sent")
        books.unsure.add(id)
    try:
        receiver.complete_message(message)
    except MessageLockLostError:
        with books.lock:
            books.unsure.discard(id)
        raise
    with books.lock:
        books.unsure.discard(id)
        if id in books.completed:
            books.broken.append(f"{id} was completed twice, and both times well")
        books.completed[id] = time.monotonic()


def main(queue):
    books, over_sending, over = Books(), threading.Event(), threading.Event()
    senders = [threading.Thread(target=send, args=(books, queue, n, over_sending)) for n in range(SENDERS)]
    receivers = [threading.Thread(target=receive, args=(books, queue, over)) for _ in range(RECEIVERS)]
    for thread in senders + receivers:
        thread.start()
    sys.stdin.readline()
    over_sending.set()
    for thread in senders:
        thread.join()
    done, since = 0, time.monotonic()
    while books.left() and time.monotonic() - since < STILL_SECONDS:
        if len(books.completed) > done:
            done, since = len(books.completed), time.monotonic()
        time.sleep(0.2)
    over.set()
    for thread in receivers:
        thread.join()
    for line in books.broken + [f"{id} is lost" for id in sorted(books.left())]:
        print(line)
    print(f"accepted {len(books.accepted)} completed {len(books.completed)} unsure {len(books.unsure)}")


if __name__ == "__main__":
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    main(sys.argv[1])
