"""Drives Mente's pull API with Microsoft's own client for Event Grid namespaces, unmodified.

usage: eventgrid_namespaces.py ENDPOINT KEY TOPIC SUBSCRIPTION

The subscription exists, begins at the start of the empty topic and allows two deliveries.
"""

import sys

from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridConsumerClient, EventGridPublisherClient


def check(found, expected, what):
    if found != expected:
        raise SystemExit(f"{what}: found {found!r}, expected {expected!r}")


def settled(result, succeeded, what):
    check(sorted(result.succeeded_lock_tokens), sorted(succeeded), what)
    check(list(result.failed_lock_tokens), [], f"{what}, failures")


def event(id, data):
    return CloudEvent(id=id, source="/shop", type="order.placed", subject=f"order/{id}", data=data)


def receive(consumer, count):
    """Receives until so many are there: one call answers with what the broker has read by then."""
    received = []
    while len(received) < count:
        more = consumer.receive(max_events=10, max_wait_time=10)
        if not more:
            break
        received.extend(more)
    return received


def main(endpoint, key, topic, subscription):
    credential = AzureKeyCredential(key)
    publisher = EventGridPublisherClient(endpoint, credential, namespace_topic=topic)
    consumer = EventGridConsumerClient(
        endpoint, credential, namespace_topic=topic, subscription=subscription
    )

    # One event, a list of events, plain dictionaries; text and bytes as data.
    publisher.send(event("1", {"total": 12.5, "lines": [1, 2]}))
    publisher.send([event("2", "text"), event("3", b"\x00\xff")])
    publisher.send({"id": "4", "source": "/shop", "specversion": "1.0", "type": "order.placed", "data": None, "level": 3})

    received = receive(consumer, 4)
    check([detail.event.id for detail in received], ["1", "2", "3", "4"], "received")
    check([detail.broker_properties.delivery_count for detail in received], [1] * 4, "counts")
    first = received[0].event
    check(first.data, {"total": 12.5, "lines": [1, 2]}, "JSON data")
    check((first.source, first.type, first.subject), ("/shop", "order.placed", "order/1"), "attributes")
    check(received[1].event.data, "text", "text data")
    check(received[2].event.data, b"\x00\xff", "binary data")
    check(received[3].event.extensions, {"level": 3, "menteactor": "sdk"}, "extensions and the name of the key")
    tokens = [detail.broker_properties.lock_token for detail in received]

    settled(consumer.renew_locks(lock_tokens=tokens[:2]), tokens[:2], "renewed")
    settled(consumer.acknowledge(lock_tokens=tokens[:2]), tokens[:2], "acknowledged")
    settled(consumer.release(lock_tokens=[tokens[2]], release_delay=0), [tokens[2]], "released")
    settled(consumer.reject(lock_tokens=[tokens[3]]), [tokens[3]], "rejected")

    # What was settled fails by its token, and the call succeeds.
    again = consumer.acknowledge(lock_tokens=[tokens[0], "nonsense"])
    check(list(again.succeeded_lock_tokens), [], "settled twice")
    failed = {failure.lock_token: failure.error.code for failure in again.failed_lock_tokens}
    check(failed, {tokens[0]: "TokenLost", "nonsense": "BadToken"}, "failures")

    # Only the released one comes again; its second failure sends it to the dead letters.
    received = consumer.receive(max_events=10, max_wait_time=10)
    check([(d.event.id, d.broker_properties.delivery_count) for d in received], [("3", 2)], "again")
    token = received[0].broker_properties.lock_token
    settled(consumer.release(lock_tokens=[token]), [token], "released again")

    missing = EventGridConsumerClient(
        endpoint, credential, namespace_topic=topic, subscription="missing"
    )
    try:
        missing.receive()
        raise SystemExit("a subscription that does not exist was received from")
    except ResourceNotFoundError as error:
        check(error.error.code, "NotFound", "code of the refusal")

    try:
        publisher.send({"source": "/shop"})
        raise SystemExit("an event without its attributes was taken")
    except HttpResponseError as error:
        check(error.status_code, 400, "status of a bad event")

    stranger = EventGridPublisherClient(
        endpoint, AzureKeyCredential("wrong"), namespace_topic=topic
    )
    try:
        stranger.send(event("5", None))
        raise SystemExit("a wrong key was taken")
    except ClientAuthenticationError as error:
        check(error.status_code, 401, "status of a wrong key")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
    print("ok")
