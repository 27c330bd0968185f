"""kombu's transport `azureservicebus`: exchanges, queues, messages and what is done with them."""

import os
import socket
import time
from queue import Empty

from kombu import Connection, Consumer, Exchange, Producer, Queue

from case import LOCK_SECONDS, SOON, case, eventually, options, same


def connected(url="MENTE_KOMBU", **more):
    return Connection(os.environ[url], transport_options=options(**more))


def take(connection, consumed, count, done, **how):
    """So many messages and not one more, done with in this way: by their order, (queue, body, message)."""
    taken = []

    def came(body, message):
        taken.append((message.delivery_info["routing_key"], body, message))
        done(message)

    with Consumer(connection.default_channel, consumed, callbacks=[came], **how):
        until = time.monotonic() + SOON
        while len(taken) < count:
            assert time.monotonic() < until, f"{len(taken)} of {count} messages came"
            drain(connection)
        drain(connection)
    same(len(taken), count)
    return taken


def drain(connection):
    try:
        connection.drain_events(timeout=2)
    except socket.timeout:
        pass


def acknowledged(message):
    message.ack()


def put_aside(message):
    """Neither done with nor given back."""


def only(queue, connection):
    """The one message that is there, which stays taken."""
    bound = queue(connection.default_channel)
    until = time.monotonic() + SOON
    while (message := bound.get()) is None:
        assert time.monotonic() < until, "no message came"
    return message


def gone(queue, connection):
    same(queue(connection.default_channel).get(), None)
    same(size(queue, connection), 0)


def size(queue, connection):
    return queue(connection.default_channel).queue_declare(passive=True).message_count


def there_and_back(connection):
    exchange = Exchange("work", type="topic")
    queues = [Queue(name, exchange, routing_key=key) for name, key in (("red", "*.red"), ("all", "#"))]
    with connection:
        producer = Producer(connection.default_channel, exchange)
        for queue in queues:
            queue(connection.default_channel).declare()
        for key in ("car.red", "car.blue"):
            producer.publish({"what": key}, routing_key=key)
        same([size(queue, connection) for queue in queues], [1, 2])
        came = take(connection, queues, 3, acknowledged)
        same(sorted(key for key, _, _ in came), ["car.blue", "car.red", "car.red"])
        same(all(body == {"what": key} for key, body, _ in came), True)
        for queue in queues:
            gone(queue, connection)


@case
def an_exchange_with_several_queues():
    there_and_back(connected())
    # All is declared again, of what is there already.
    there_and_back(connected())


@case
def ports_in_the_url():
    there_and_back(connected("MENTE_KOMBU_PORTS"))


@case
def bodies_and_headers():
    queue = Queue("q", Exchange("e"), routing_key="k")
    odd = "\N{SNOWMAN} \U0001f98a \x00 \\ \" é"
    bodies = [{"text": odd, "list": [1, -2.5, None, True]}, odd, bytes(range(256)), b"", "x" * 150_000]
    with connected() as connection:
        producer = Producer(connection.default_channel, queue.exchange)
        headers = {"text": odd, "number": 2**40, "nested": {"a": [None]}}
        for number, body in enumerate(bodies):
            producer.publish(
                body,
                routing_key="k",
                declare=[queue],
                headers=dict(headers),
                priority=number,
                correlation_id=str(number),
                compression="zlib" if number == 4 else None,
            )
        came = take(connection, [queue], len(bodies), acknowledged)
        same([body for _, body, _ in came], bodies)
        for number, (_, _, message) in enumerate(came):
            same({name: message.headers[name] for name in headers}, headers)
            same(message.properties["correlation_id"], str(number))
            same(message.properties["priority"], number)


@case
def what_is_not_acknowledged_comes_again():
    queue = Queue("q", Exchange("e"), routing_key="k")
    # How many deliveries failed before, as the service says.
    failed = lambda message: message.delivery_info["azure_message"].delivery_count
    with connected() as connection:
        queue(connection.default_channel).declare()
        producer = Producer(connection.default_channel, queue.exchange)
        for way in ("left", "rejected", "requeued"):
            producer.publish(way, routing_key="k")
            message = only(queue, connection)
            same((message.payload, failed(message)), (way, 0))
            taken = time.monotonic()
            # The transport leaves both to the lock's end.
            if way == "rejected":
                message.reject()
            elif way == "requeued":
                message.requeue()
            same(queue(connection.default_channel).get(), None)
            again = only(queue, connection)
            waited = time.monotonic() - taken
            assert waited > LOCK_SECONDS - 1, f"it was locked, and came after {waited} s"
            same((again.payload, failed(again)), (way, 1))
            again.ack()
            gone(queue, connection)


@case
def a_consumer_that_acknowledges_nothing():
    queue = Queue("q", Exchange("e"), routing_key="k")
    with connected() as connection:
        producer = Producer(connection.default_channel, queue.exchange)
        for number in range(3):
            producer.publish(number, routing_key="k", declare=[queue])
        came = take(connection, [queue], 3, put_aside, no_ack=True)
        same([body for _, body, _ in came], [0, 1, 2])
        gone(queue, connection)


@case
def a_lock_that_is_renewed():
    queue = Queue("q", Exchange("e"), routing_key="k")
    with connected(use_lock_renewal=True) as connection, connected() as other:
        Producer(connection.default_channel, queue.exchange).publish("long", routing_key="k", declare=[queue])
        message = only(queue, connection)
        until = time.monotonic() + 2 * LOCK_SECONDS
        while time.monotonic() < until:
            same(queue(other.default_channel).get(), None)
        message.ack()
        gone(queue, connection)


@case
def a_queue_that_is_purged_and_deleted():
    queue = Queue("q", Exchange("e"), routing_key="k")
    with connected() as connection:
        bound = queue(connection.default_channel)
        producer = Producer(connection.default_channel, queue.exchange)
        for number in range(25):
            producer.publish(number, routing_key="k", declare=[queue])
        same(size(queue, connection), 25)
        same(bound.purge(), 25)
        gone(queue, connection)
        producer.publish("last", routing_key="k")
        same(size(queue, connection), 1)
        bound.delete()
        bound.declare()
        gone(queue, connection)


@case
def simple_queues():
    with connected() as connection:
        with connection.SimpleQueue("simple") as simple:
            for number in range(3):
                simple.put({"number": number})
            eventually(simple.qsize, 3)
            for number in range(3):
                message = simple.get(timeout=SOON)
                same(message.payload, {"number": number})
                message.ack()
            try:
                raise AssertionError(f"{simple.get(block=False).payload} was left")
            except Empty:
                pass
