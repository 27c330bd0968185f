"""Locks on messages: renewed, lost; and too many deliveries, and time to live."""

import asyncio
from datetime import datetime, timedelta, timezone

from azure.servicebus import (
    ServiceBusMessage as Message,
    ServiceBusReceiveMode as Mode,
    ServiceBusSubQueue as SubQueue,
)
from azure.servicebus.exceptions import MessageAlreadySettled, MessageLockLostError

from case import case, is_empty, past, refused, same, take, take_one, text, texts


@case("short")
async def renew_lock(bus):
    await bus.send(Message("held"), "short")
    async with bus.receiver("short") as receiver:
        message = await take_one(receiver)
        first = message.locked_until_utc
        await asyncio.sleep(3)
        renewed = await receiver.renew_message_lock(message)
        assert renewed > first, f"{renewed} is not behind {first}"
        same(message.locked_until_utc, renewed)
        await past(first)
        await is_empty(receiver)
        await receiver.complete_message(message)
        same(await receiver.peek_messages(sequence_number=1), [])


@case("short")
async def lock_lost(bus):
    await bus.send(Message("held"), "short")
    async with bus.receiver("short") as receiver:
        message = await take_one(receiver)
        await past(message.locked_until_utc)
        # The SDK's own clock would say so; the broker is to.
        message._expiry = datetime.now(timezone.utc) + timedelta(minutes=1)
        await refused(MessageLockLostError, receiver.renew_message_lock(message))
        await refused(MessageLockLostError, receiver.complete_message(message))
        again = await take_one(receiver)
        same((text(again), again.delivery_count), ("held", 1))
        assert again.lock_token != message.lock_token
        await receiver.complete_message(again)


@case("short")
async def renewed_by_itself(bus):
    await bus.send(Message("held"), "short")
    async with bus.receiver("short") as receiver, bus.flavour.renewer() as renewer:
        message = await take_one(receiver)
        first = message.locked_until_utc
        renewer.register(receiver, message, max_lock_renewal_duration=60)
        await past(first + timedelta(seconds=4))
        same(message.auto_renew_error, None)
        assert message.locked_until_utc > first
        await is_empty(receiver)
        await receiver.complete_message(message)
        same(await receiver.peek_messages(sequence_number=1), [])


@case("short")
async def lock_outlives_its_link(bus):
    await bus.send([Message("done"), Message("again")], "short")
    async with bus.receiver("short") as receiver:
        done, again = await take(receiver, 2)
        await receiver.complete_message(done)
        await refused(MessageAlreadySettled, receiver.complete_message(done))
    async with bus.receiver("short") as receiver:
        await is_empty(receiver)
        await past(again.locked_until_utc)
        same(text(await take_one(receiver)), "again")


@case("short")
async def too_many_deliveries(bus):
    await bus.send(Message("bad", message_id="m"), "short")
    async with bus.receiver("short") as receiver:
        for count in range(3):
            message = await take_one(receiver)
            same(message.delivery_count, count)
            await receiver.abandon_message(message)
        await is_empty(receiver)
    async with bus.receiver("short", sub_queue=SubQueue.DEAD_LETTER) as letters:
        letter = await take_one(letters)
        same((text(letter), letter.message_id), ("bad", "m"))
        same(letter.dead_letter_reason, "MaxDeliveryCountExceeded")
        await letters.complete_message(letter)


@case("ttl")
async def expired(bus):
    await bus.send([Message("stale", message_id="m"), Message("too", time_to_live=timedelta(hours=1))], "ttl")
    async with bus.receiver("ttl", sub_queue=SubQueue.DEAD_LETTER) as letters:
        came = await take(letters, 2)
        same(texts(came), ["stale", "too"])
        same([letter.dead_letter_reason for letter in came], ["TTLExpiredException"] * 2)
        same(came[0].message_id, "m")
        for letter in came:
            await letters.complete_message(letter)
    async with bus.receiver("ttl") as receiver:
        await is_empty(receiver)


@case("plain")
async def expired_without_dead_letters(bus):
    await bus.send([Message("stale", time_to_live=timedelta(seconds=1)), Message("kept")])
    await asyncio.sleep(1.5)
    async with bus.receiver(receive_mode=Mode.RECEIVE_AND_DELETE) as receiver:
        same(text(await take_one(receiver)), "kept")
        await is_empty(receiver)
    async with bus.receiver(sub_queue=SubQueue.DEAD_LETTER) as letters:
        await is_empty(letters)


@case("plain")
async def told_until_when(bus):
    sent = datetime.now(timezone.utc)
    await bus.send([Message("an hour", time_to_live=timedelta(hours=1)), Message("ever")])
    async with bus.receiver() as receiver:
        hour, ever = await take(receiver, 2)
        same(hour.time_to_live, timedelta(hours=1))
        expires = hour.enqueued_time_utc + timedelta(hours=1)
        assert abs(hour.expires_at_utc - expires) < timedelta(seconds=1), hour.expires_at_utc
        assert hour.expires_at_utc > sent
        same(ever.time_to_live, None)
