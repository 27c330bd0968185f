"""Topics and their subscriptions, each with a copy of its own."""

from azure.servicebus import ServiceBusMessage as Message, ServiceBusSubQueue as SubQueue

from case import case, is_empty, same, take, take_one, text, texts


def subscription(bus, name, **options):
    return bus.client.get_subscription_receiver(bus.name("topic"), name, **options)


async def publish(bus, messages):
    async with bus.client.get_topic_sender(bus.name("topic")) as sender:
        await sender.send_messages(messages)


@case("topic")
async def topic_to_each_subscription(bus):
    await publish(bus, [Message("a", subject="s", application_properties={"n": 1}), Message("b")])
    for name in ("one", "two"):
        async with subscription(bus, name) as receiver:
            came = await take(receiver, 2)
            same(texts(came), ["a", "b"])
            same((came[0].subject, came[0].application_properties), ("s", {b"n": 1}))
            for message in came:
                await receiver.complete_message(message)
            await is_empty(receiver)


@case("topic")
async def subscriptions_settle_apart(bus):
    await publish(bus, Message("m"))
    async with subscription(bus, "one") as receiver:
        await receiver.dead_letter_message(await take_one(receiver), reason="Broken", error_description="so")
        await is_empty(receiver)
    async with subscription(bus, "two") as receiver:
        message = await take_one(receiver)
        same((text(message), message.delivery_count), ("m", 0))
        await receiver.complete_message(message)
    async with subscription(bus, "two", sub_queue=SubQueue.DEAD_LETTER) as letters:
        await is_empty(letters)
    async with subscription(bus, "one", sub_queue=SubQueue.DEAD_LETTER) as letters:
        letter = await take_one(letters)
        same((text(letter), letter.dead_letter_reason), ("m", "Broken"))


@case("topic")
async def subscription_defers_and_peeks(bus):
    await publish(bus, [Message("late"), Message("now")])
    async with subscription(bus, "one") as receiver:
        message = await take_one(receiver)
        await receiver.defer_message(message)
        same(texts(await receiver.peek_messages(9, sequence_number=1)), ["late", "now"])
        (deferred,) = await receiver.receive_deferred_messages([message.sequence_number])
        same(text(deferred), "late")
        await receiver.complete_message(deferred)
    async with subscription(bus, "two") as receiver:
        same(texts(await take(receiver, 2)), ["late", "now"])
