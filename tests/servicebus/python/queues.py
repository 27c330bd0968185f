"""Sending, receiving, and the ends that a message has."""

import asyncio
from datetime import datetime, timedelta, timezone

from azure.servicebus import (
    ServiceBusMessage as Message,
    ServiceBusMessageState as State,
    ServiceBusReceiveMode as Mode,
    ServiceBusSubQueue as SubQueue,
)
from azure.servicebus.exceptions import MessageNotFoundError, MessageSizeExceededError, ServiceBusError

from case import case, eventually, is_empty, refused, same, take, take_one, text, texts


@case("plain")
async def send_and_complete(bus):
    await bus.send(Message("one"))
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
        same(text(message), "one")
        same(message.delivery_count, 0)
        assert message.sequence_number > 0, message.sequence_number
        assert message.lock_token is not None
        now = datetime.now(timezone.utc)
        assert abs(now - message.enqueued_time_utc) < timedelta(minutes=1), message.enqueued_time_utc
        assert message.locked_until_utc > message.enqueued_time_utc
        await receiver.complete_message(message)
        await is_empty(receiver)
        same(await receiver.peek_messages(), [])


@case("plain")
async def send_list(bus):
    await bus.send([Message(f"{i}") for i in range(10)])
    async with bus.receiver() as receiver:
        came = await take(receiver, 10)
        same(texts(came), [f"{i}" for i in range(10)])
        numbers = [message.sequence_number for message in came]
        same(numbers, list(range(numbers[0], numbers[0] + 10)))
        for message in came:
            await receiver.complete_message(message)
        same(await receiver.peek_messages(), [])


@case("plain")
async def send_batch(bus):
    async with bus.sender() as sender:
        batch = await sender.create_message_batch()
        for i in range(100):
            batch.add_message(Message(f"{i}", message_id=f"id-{i}", application_properties={"i": i}))
        same(len(batch), 100)
        await sender.send_messages(batch)
    async with bus.receiver() as receiver:
        came = await take(receiver, 100)
        same(texts(came), [f"{i}" for i in range(100)])
        same([message.message_id for message in came], [f"id-{i}" for i in range(100)])
        same([message.application_properties[b"i"] for message in came], list(range(100)))


@case("plain")
async def batch_has_an_end(bus):
    async with bus.sender() as sender:
        batch = await sender.create_message_batch(max_size_in_bytes=1000)
        batch.add_message(Message("a" * 300))

        async def too_many():
            for _ in range(10):
                batch.add_message(Message("a" * 300))

        await refused(MessageSizeExceededError, too_many())
        count = len(batch)
        assert 1 <= count < 4, count
        await sender.send_messages(batch)
    async with bus.receiver() as receiver:
        same(texts(await take(receiver, count)), ["a" * 300] * count)
        await is_empty(receiver)


@case("plain")
async def abandon(bus):
    await bus.send([Message("first"), Message("second")])
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
        same((text(message), message.delivery_count), ("first", 0))
        await receiver.abandon_message(message)
        # Back in its place, not behind the other one.
        again = await take_one(receiver)
        same((text(again), again.delivery_count), ("first", 1))
        same(again.sequence_number, message.sequence_number)
        assert again.lock_token != message.lock_token
        await receiver.complete_message(again)
        other = await take_one(receiver)
        same((text(other), other.delivery_count), ("second", 0))


@case("plain")
async def dead_letter(bus):
    sent = Message("bad", message_id="m", application_properties={"kept": "yes"})
    await bus.send(sent)
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
        await receiver.dead_letter_message(message, reason="Broken", error_description="it does not parse")
        await is_empty(receiver)
    async with bus.receiver(sub_queue=SubQueue.DEAD_LETTER) as letters:
        letter = await take_one(letters)
        same(text(letter), "bad")
        same((letter.dead_letter_reason, letter.dead_letter_error_description), ("Broken", "it does not parse"))
        same(letter.message_id, "m")
        same(letter.application_properties[b"kept"], b"yes")
        await bus.send(Message(b"".join(letter.body), message_id=letter.message_id))
        await letters.complete_message(letter)
        same(await letters.peek_messages(), [])
    async with bus.receiver() as receiver:
        same(text(await take_one(receiver)), "bad")


@case("plain")
async def dead_letter_without_words(bus):
    await bus.send(Message("bad"))
    async with bus.receiver() as receiver:
        await receiver.dead_letter_message(await take_one(receiver))
    async with bus.receiver(sub_queue=SubQueue.DEAD_LETTER) as letters:
        letter = await take_one(letters)
        same(text(letter), "bad")
        same(letter.dead_letter_reason or None, None)
        # There is no dead-letter queue of a dead-letter queue: abandoned, it stays.
        await letters.abandon_message(letter)
        same(text(await take_one(letters)), "bad")


@case("plain")
async def defer(bus):
    await bus.send([Message("late"), Message("now")])
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
        same(text(message), "late")
        await receiver.defer_message(message)
        other = await take_one(receiver)
        same(text(other), "now")
        await receiver.complete_message(other)
        await is_empty(receiver)
        peeked = await receiver.peek_messages(sequence_number=1)
        same([(text(p), p.state) for p in peeked], [("late", State.DEFERRED)])
        (deferred,) = await receiver.receive_deferred_messages(message.sequence_number)
        same(text(deferred), "late")
        same(deferred.sequence_number, message.sequence_number)
        assert deferred.lock_token is not None
        await receiver.complete_message(deferred)
        await refused(MessageNotFoundError, receiver.receive_deferred_messages(message.sequence_number))
        same(await receiver.peek_messages(sequence_number=1), [])


@case("plain")
async def deferred_ends(bus):
    """Each other end that a deferred message has, and none of them before it was asked for."""
    await bus.send([Message("abandoned"), Message("deferred"), Message("dead"), Message("deleted")])
    async with bus.receiver() as receiver:
        came = await take(receiver, 4)
        numbers = [message.sequence_number for message in came]
        for message in came:
            await receiver.defer_message(message)
        deferred = await receiver.receive_deferred_messages(numbers[:3])
        same(texts(deferred), ["abandoned", "deferred", "dead"])
        await receiver.abandon_message(deferred[0])
        await receiver.defer_message(deferred[1])
        await receiver.dead_letter_message(deferred[2], reason="after all")
    # Abandoned, it is deferred still.
    async with bus.receiver() as receiver:
        await is_empty(receiver)
        again = await receiver.receive_deferred_messages(numbers[:2])
        same(texts(again), ["abandoned", "deferred"])
        for message in again:
            await receiver.complete_message(message)
    async with bus.receiver(receive_mode=Mode.RECEIVE_AND_DELETE) as receiver:
        same(texts(await receiver.receive_deferred_messages(numbers[3:])), ["deleted"])
        same(await receiver.peek_messages(sequence_number=1), [])
    async with bus.receiver(sub_queue=SubQueue.DEAD_LETTER) as letters:
        letter = await take_one(letters)
        same((text(letter), letter.dead_letter_reason), ("dead", "after all"))


@case("plain")
async def receive_and_delete(bus):
    await bus.send([Message("one"), Message("two")])
    async with bus.receiver(receive_mode=Mode.RECEIVE_AND_DELETE) as receiver:
        same(texts(await take(receiver, 2)), ["one", "two"])
        same(await receiver.peek_messages(sequence_number=1), [])
        await is_empty(receiver)


@case("plain")
async def peek(bus):
    await bus.send([Message(f"{i}") for i in range(5)])
    async with bus.receiver() as receiver:
        peeked = await receiver.peek_messages(max_message_count=3)
        same(texts(peeked), ["0", "1", "2"])
        same([message.state for message in peeked], [State.ACTIVE] * 3)
        # It goes on behind.
        same(texts(await receiver.peek_messages(max_message_count=9)), ["3", "4"])
        same(texts(await receiver.peek_messages(9, sequence_number=peeked[1].sequence_number)), ["1", "2", "3", "4"])
        # Nothing was locked, and what is locked is shown.
        message = await take_one(receiver)
        same((text(message), message.delivery_count), ("0", 0))
        same(text((await receiver.peek_messages(sequence_number=1))[0]), "0")


@case("plain")
async def schedule(bus):
    due = datetime.now(timezone.utc) + timedelta(seconds=3)
    async with bus.sender() as sender:
        numbers = await sender.schedule_messages([Message("a"), Message("b")], due)
        same(len(set(numbers)), 2)
    async with bus.receiver() as receiver:
        peeked = await receiver.peek_messages(5)
        same([(text(p), p.state) for p in peeked], [("a", State.SCHEDULED), ("b", State.SCHEDULED)])
        same([p.sequence_number for p in peeked], numbers)
        came = await take(receiver, 2)
        same(sorted(texts(came)), ["a", "b"])
        now = datetime.now(timezone.utc)
        assert now >= due, f"{now} is before {due}"
        for message in came:
            # To the millisecond.
            assert message.enqueued_time_utc >= due - timedelta(milliseconds=1), message.enqueued_time_utc
            await receiver.complete_message(message)
        same(await receiver.peek_messages(sequence_number=1), [])


@case("plain")
async def schedule_and_cancel(bus):
    due = datetime.now(timezone.utc) + timedelta(hours=1)
    async with bus.sender() as sender:
        kept, gone = await sender.schedule_messages([Message("kept"), Message("gone")], due)
        one = await sender.schedule_messages(Message("one"), due)
        same(len(one), 1)
        await sender.cancel_scheduled_messages(gone)
        await sender.cancel_scheduled_messages(one)
        # The blocking and the asyncio client name it alike.
        await refused(MessageNotFoundError, sender.cancel_scheduled_messages(gone))
    async with bus.receiver() as receiver:
        peeked = await receiver.peek_messages(5)
        same([(text(p), p.sequence_number) for p in peeked], [("kept", kept)])
        same(peeked[0].scheduled_enqueue_time_utc.replace(microsecond=0), due.replace(microsecond=0))
        await is_empty(receiver)


@case("plain")
async def scheduled_by_its_property(bus):
    due = datetime.now(timezone.utc) + timedelta(seconds=3)
    await bus.send([Message("later", scheduled_enqueue_time_utc=due), Message("now")])
    async with bus.receiver() as receiver:
        same(texts(await take(receiver, 2)), ["now", "later"])
        now = datetime.now(timezone.utc)
        assert now >= due, f"{now} is before {due}"


@case("plain")
async def prefetch(bus):
    await bus.send([Message(f"{i}") for i in range(50)])
    async with bus.receiver(prefetch_count=20) as receiver:
        seen = []
        while len(seen) < 50:
            for message in await take(receiver, 5):
                seen.append(text(message))
                await receiver.complete_message(message)
        same(seen, [f"{i}" for i in range(50)])
        same(await receiver.peek_messages(sequence_number=1), [])


@case("plain")
async def closing_gives_back(bus):
    """What a receiver held ahead of its calls comes again, and was no failed delivery."""
    await bus.send([Message(f"{i}") for i in range(10)])
    async with bus.receiver(prefetch_count=10) as receiver:
        await receiver.complete_message(await take_one(receiver))
    async with bus.receiver() as receiver:
        came = await take(receiver, 9)
        same(texts(came), [f"{i}" for i in range(1, 10)])
        same([message.delivery_count for message in came], [0] * 9)


@case("plain")
async def iterate(bus):
    await bus.send([Message(f"{i}") for i in range(7)])
    seen = []
    async with bus.receiver(max_wait_time=2) as receiver:
        async for message in receiver:
            seen.append(text(message))
            await receiver.complete_message(message)
        same(seen, [f"{i}" for i in range(7)])
        same(await receiver.peek_messages(sequence_number=1), [])


@case("plain")
async def receivers_share(bus):
    """Several senders and receivers at once: each message comes to one of them."""

    async def fill(who):
        async with bus.sender() as sender:
            for i in range(25):
                await sender.send_messages(Message(f"{who}-{i}"))

    seen = []

    async def drain():
        async with bus.receiver() as receiver:
            while True:
                came = await receiver.receive_messages(max_message_count=10, max_wait_time=3)
                if not came:
                    return
                for message in came:
                    await receiver.complete_message(message)
                    seen.append(text(message))

    await asyncio.gather(*(fill(who) for who in range(4)), *(drain() for _ in range(3)))
    same(sorted(seen), sorted(f"{who}-{i}" for who in range(4) for i in range(25)))


@case("plain")
async def waiting_receiver(bus):
    """A message that is sent while a receiver waits for it comes at once."""
    async with bus.receiver() as receiver:
        waiting = asyncio.ensure_future(take_one(receiver))
        await asyncio.sleep(1)
        await bus.send(Message("here"))
        same(text(await waiting), "here")


@case("plain", "forward")
async def forwarded(bus):
    await bus.send(Message("on", message_id="m"), "forward")
    async with bus.receiver("plain") as receiver:
        message = await take_one(receiver)
        same((text(message), message.message_id), ("on", "m"))
        await receiver.complete_message(message)
    await refused(ServiceBusError, peek_at(bus, "forward"))


async def peek_at(bus, kind):
    async with bus.receiver(kind) as receiver:
        return await receiver.receive_messages(max_wait_time=2)


@case("dedup")
async def duplicates(bus):
    async with bus.sender("dedup") as sender:
        await sender.send_messages(Message("first", message_id="a"))
        await sender.send_messages(Message("again", message_id="a"))
        await sender.send_messages([Message("b", message_id="b"), Message("b again", message_id="b")])
    async with bus.receiver("dedup") as receiver:
        came = await take(receiver, 2)
        same(texts(came), ["first", "b"])
        for message in came:
            await receiver.complete_message(message)
        # Done with, and known still.
        await bus.send([Message("too late", message_id="a"), Message("c", message_id="c")], "dedup")
        same(text(await take_one(receiver)), "c")
        await is_empty(receiver)


@case("plain")
async def counted_by_peeking(bus):
    """What was sent is there for whoever looks next."""
    async with bus.sender() as sender, bus.receiver() as receiver:
        for i in range(20):
            await sender.send_messages(Message(f"{i}"))
            same(len(await receiver.peek_messages(100, sequence_number=1)), i + 1)

    async def left():
        async with bus.receiver() as receiver:
            return len(await receiver.peek_messages(100, sequence_number=1))

    async with bus.receiver(receive_mode=Mode.RECEIVE_AND_DELETE) as receiver:
        await take(receiver, 20)
    await eventually(left, 0)
