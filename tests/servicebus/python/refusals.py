"""What is refused, by which name."""

from azure.servicebus import ServiceBusMessage as Message
from azure.servicebus.amqp import AmqpAnnotatedMessage as Annotated, AmqpMessageProperties as Properties
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusError,
)

from case import case, is_empty, opened, refused, same, take_one, text


@case()
async def unknown_queue(bus):
    await refused(MessagingEntityNotFoundError, opened(bus.client.get_queue_sender("nothing")))
    await refused(MessagingEntityNotFoundError, opened(bus.client.get_queue_receiver("nothing")))


@case("topic")
async def unknown_subscription(bus):
    receiver = bus.client.get_subscription_receiver(bus.name("topic"), "three")
    await refused(MessagingEntityNotFoundError, opened(receiver))
    receiver = bus.client.get_subscription_receiver("nothing", "one")
    await refused(MessagingEntityNotFoundError, opened(receiver))


@case("session")
async def no_session_where_one_is_needed(bus):
    error = await refused(ServiceBusError, opened(bus.receiver("session")))
    assert "session" in str(error), error
    await refused(ServiceBusError, bus.send(Message("of none"), "session"))
    async with bus.receiver("session", session_id="a") as receiver:
        same(await receiver.peek_messages(sequence_number=1), [])


@case("plain")
async def session_where_there_are_none(bus):
    error = await refused(ServiceBusError, opened(bus.receiver("plain", session_id="a")))
    assert "session" in str(error), error
    # A session's name is a property like others there.
    await bus.send(Message("m", session_id="a"))
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
        same((text(message), message.session_id), ("m", "a"))


@case("plain")
async def too_large(bus):
    async with bus.sender() as sender:
        await refused(MessageSizeExceededError, sender.send_messages(Message(b"x" * (2 << 20))))
        # The sender is of use still.
        await sender.send_messages(Message("small"))
    async with bus.receiver() as receiver:
        same(text(await take_one(receiver)), "small")
        await is_empty(receiver)


def long_id(body, length):
    """The SDK looks at the id of its own messages, and not at that of AMQP's."""
    return Annotated(data_body=body, properties=Properties(message_id="x" * length))


@case("plain")
async def too_long_an_id(bus):
    async with bus.sender() as sender:
        await sender.send_messages(long_id(b"fits", 128))
        await refused(ServiceBusError, sender.send_messages(long_id(b"does not", 129)))
    async with bus.receiver() as receiver:
        same(text(await take_one(receiver)), "fits")
        await is_empty(receiver)


@case("plain")
async def all_or_none(bus):
    """One message that is refused, and none of its batch is there."""
    await refused(ServiceBusError, bus.send([Message("fits"), long_id(b"does not", 129)]))
    async with bus.receiver() as receiver:
        await is_empty(receiver)


@case("plain")
async def dead_letters_are_not_sent_to(bus):
    sender = bus.client.get_queue_sender(bus.name() + "/$DeadLetterQueue")
    error = await refused_somehow(sender)
    assert error, "a dead-letter queue took a message"


async def refused_somehow(sender):
    try:
        async with sender:
            await sender.send_messages(Message("m"))
    except ServiceBusError as error:
        return error
    return None
