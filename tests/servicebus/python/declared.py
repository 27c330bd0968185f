"""What `tests/servicebus/Config.json` declares, used by azure-servicebus as it is published.

declared.py: prints `declared ok`, or fails. The environment has the connection string, MENTE_SERVICEBUS."""

import os

from azure.servicebus import ServiceBusClient
from azure.servicebus import ServiceBusMessage as Message

# How long a message that must come may take.
PATIENCE = 30
FIRST = {
    "content_type": "application/text",
    "correlation_id": "id1",
    "subject": "subject1",
    "message_id": "msgid1",
    "reply_to": "someQueue",
    "reply_to_session_id": "sessionId",
    "session_id": "session1",
    "to": "xyz",
}
SECOND = {"application_properties": {"prop1": "value1", "prop2": 2}}
THIRD = {"message_id": "123456", "application_properties": {"userProp1": "value1"}}


def same(came, wanted):
    if came != wanted:
        raise SystemExit(f"{came} came, not {wanted}")


def take(receiver, count):
    """So many messages, in their order."""
    came = []
    while len(came) < count:
        more = receiver.receive_messages(max_message_count=count - len(came), max_wait_time=PATIENCE)
        if not more:
            raise SystemExit(f"{count - len(came)} of {count} messages do not come")
        for message in more:
            receiver.complete_message(message)
        came.extend(more)
    return came


def queue(client):
    """Duplicates are dropped, and after three deliveries a message goes on to where letters are forwarded."""
    with client.get_queue_sender("queue.1") as sender:
        sender.send_messages([Message("a", message_id="1"), Message("a", message_id="1"), Message("b", message_id="2")])
    with client.get_queue_receiver("queue.1", prefetch_count=0) as receiver:
        for delivery in range(3):
            (message,) = receiver.receive_messages(max_message_count=1, max_wait_time=PATIENCE)
            same((str(message), message.delivery_count), ("a", delivery))
            receiver.abandon_message(message)
        same([str(message) for message in take(receiver, 1)], ["b"])
    with client.get_queue_receiver("letters") as letters:
        (letter,) = take(letters, 1)
        same((str(letter), letter.message_id), ("a", "1"))


def topic(client):
    """Each subscription gets what its rules say: all is sent twice, so that what came between would be seen."""
    with client.get_topic_sender("topic.1") as sender:
        for _ in range(2):
            for number, said in enumerate([FIRST, SECOND, THIRD], 1):
                sender.send_messages(Message(str(number), **said))
    for name, wanted in [("1", "11"), ("2", "22"), ("3", "123123"), ("4", "33")]:
        with client.get_subscription_receiver("topic.1", f"subscription.{name}") as receiver:
            came = take(receiver, len(wanted))
            same("".join(map(str, came)), wanted)
            if name == "4":
                same([message.to for message in came], ["Entity"] * 2)


with ServiceBusClient.from_connection_string(os.environ["MENTE_SERVICEBUS"], retry_total=0) as client:
    queue(client)
    topic(client)
print("declared ok")
