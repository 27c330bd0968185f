"""Sessions: exclusive, in order, with a state of their own."""

import asyncio
from datetime import datetime, timedelta, timezone

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage as Message, ServiceBusSubQueue as SubQueue
from azure.servicebus.exceptions import (
    OperationTimeoutError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

from case import case, is_empty, opened, past, refused, same, take, take_one, text, texts


def of(session, *bodies):
    return [Message(body, session_id=session) for body in bodies]


def session(bus, name, kind="session", **options):
    return bus.receiver(kind, session_id=name, **options)


@case("session")
async def session_named(bus):
    await bus.send(of("a", "a0", "a1") + of("b", "b0"), "session")
    async with session(bus, "a") as receiver:
        same(receiver.session.session_id, "a")
        assert receiver.session.locked_until_utc > datetime.now(timezone.utc)
        came = await take(receiver, 2)
        same([(text(m), m.session_id) for m in came], [("a0", "a"), ("a1", "a")])
        for message in came:
            await receiver.complete_message(message)
        # Another session's are not its own.
        await is_empty(receiver)
    async with session(bus, "b") as receiver:
        same(text(await take_one(receiver)), "b0")


@case("session")
async def session_next(bus):
    await bus.send(of("a", "a0") + of("b", "b0"), "session")
    seen = {}
    async with session(bus, NEXT_AVAILABLE_SESSION) as one, session(bus, NEXT_AVAILABLE_SESSION) as other:
        for receiver in (one, other):
            message = await take_one(receiver)
            same(message.session_id, receiver.session.session_id)
            seen[receiver.session.session_id] = text(message)
            await receiver.complete_message(message)
    same(seen, {"a": "a0", "b": "b0"})


@case("session")
async def session_next_when_there_is_none(bus):
    receiver = session(bus, NEXT_AVAILABLE_SESSION, max_wait_time=3)
    await refused(OperationTimeoutError, opened(receiver))


@case("session")
async def session_next_is_waited_for(bus):
    async def wait():
        async with session(bus, NEXT_AVAILABLE_SESSION, max_wait_time=30) as receiver:
            return receiver.session.session_id, text(await take_one(receiver))

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(1)
    await bus.send(of("late", "here"), "session")
    same(await waiting, ("late", "here"))


@case("session")
async def sessions_interleaved(bus):
    """Two receivers at once, each with a session of its own, in order, however the senders mixed them."""
    messages = [message for i in range(20) for name in "ab" for message in of(name, f"{name}{i}")]
    await bus.send(messages, "session")

    async def drain(name):
        seen = []
        async with session(bus, name) as receiver:
            while len(seen) < 20:
                for message in await receiver.receive_messages(max_message_count=3, max_wait_time=10):
                    seen.append(text(message))
                    await receiver.complete_message(message)
        return seen

    seen = await asyncio.gather(drain("a"), drain("b"))
    same(seen, [[f"{name}{i}" for i in range(20)] for name in "ab"])


@case("session")
async def session_is_exclusive(bus):
    await bus.send(of("a", "a0"), "session")
    async with session(bus, "a") as receiver:
        await refused(SessionCannotBeLockedError, opened(session(bus, "a")))
        same(text(await take_one(receiver)), "a0")
    # Free as soon as it is closed, and what was locked under it with it, not counted.
    async with session(bus, "a") as receiver:
        message = await take_one(receiver)
        same((text(message), message.delivery_count), ("a0", 0))


@case("session")
async def session_state(bus):
    async with session(bus, "a") as receiver:
        same(await receiver.session.get_state(), None)
        await receiver.session.set_state("first")
        same(await receiver.session.get_state(), b"first")
        await receiver.session.set_state(b"\x00\xff")
    # It outlives lock and messages.
    async with session(bus, "a") as receiver:
        same(await receiver.session.get_state(), b"\x00\xff")
        await receiver.session.set_state(None)
        same(await receiver.session.get_state(), None)
    async with session(bus, "b") as receiver:
        same(await receiver.session.get_state(), None)


@case("brief-session")
async def session_renewed(bus):
    await bus.send(of("a", "a0"), "brief-session")
    async with session(bus, "a", "brief-session") as receiver:
        message = await take_one(receiver)
        first = receiver.session.locked_until_utc
        await asyncio.sleep(3)
        renewed = await receiver.session.renew_lock()
        assert renewed > first, f"{renewed} is not behind {first}"
        await past(first)
        await refused(SessionCannotBeLockedError, opened(session(bus, "a", "brief-session")))
        await receiver.complete_message(message)
        same(await receiver.peek_messages(sequence_number=1), [])


@case("brief-session")
async def session_lock_lost(bus):
    await bus.send(of("a", "a0"), "brief-session")
    async with session(bus, "a", "brief-session") as receiver:
        message = await take_one(receiver)
        await past(receiver.session.locked_until_utc)
        # The SDK's own clock would say so; the broker is to.
        receiver.session._locked_until_utc = datetime.now(timezone.utc) + timedelta(minutes=1)
        await refused(SessionLockLostError, receiver.session.renew_lock())
        await refused(SessionLockLostError, receiver.session.set_state("mine"))
        await refused(SessionLockLostError, receiver.complete_message(message))
    async with session(bus, "a", "brief-session") as receiver:
        same(text(await take_one(receiver)), "a0")
        same(await receiver.session.get_state(), None)


@case("brief-session")
async def session_renewed_by_itself(bus):
    await bus.send(of("a", "a0"), "brief-session")
    async with session(bus, "a", "brief-session") as receiver, bus.flavour.renewer() as renewer:
        first = receiver.session.locked_until_utc
        renewer.register(receiver, receiver.session, max_lock_renewal_duration=60)
        message = await take_one(receiver)
        await past(first + timedelta(seconds=4))
        same(receiver.session.auto_renew_error, None)
        await receiver.complete_message(message)


@case("session")
async def sessions_listed(bus):
    before = datetime.now(timezone.utc)

    async def listed(**options):
        pages = bus.client.list_queue_sessions(bus.name("session"), **options)
        return sorted([name async for name in pages])

    same(await listed(), [])
    await bus.send([message for name in ("c", "a", "b") for message in of(name, "m")], "session")
    same(await listed(), ["a", "b", "c"])
    async with session(bus, "a") as receiver:
        await receiver.session.set_state("kept")
        await receiver.complete_message(await take_one(receiver))
    async with session(bus, "b") as receiver:
        await receiver.complete_message(await take_one(receiver))
    # One has a state, one has messages.
    same(await listed(), ["a", "c"])
    same(await listed(state_updated_after=before), ["a"])
    same(await listed(state_updated_after=datetime.now(timezone.utc) + timedelta(hours=1)), [])


@case("session")
async def sessions_listed_by_pages(bus):
    names = [f"s{i:03}" for i in range(230)]
    async with bus.sender("session") as sender:
        batch = await sender.create_message_batch()
        for name in names:
            batch.add_message(Message("m", session_id=name))
        await sender.send_messages(batch)
    pages = bus.client.list_queue_sessions(bus.name("session"))
    same(sorted([name async for name in pages]), names)


@case("session")
async def session_abandoned(bus):
    await bus.send(of("a", "a0", "a1"), "session")
    async with session(bus, "a") as receiver:
        await receiver.abandon_message(await take_one(receiver))
        again = await take_one(receiver)
        same((text(again), again.delivery_count), ("a0", 1))
        await receiver.complete_message(again)
        same(text(await take_one(receiver)), "a1")


@case("session")
async def session_deferred(bus):
    await bus.send(of("a", "late", "now"), "session")
    async with session(bus, "a") as receiver:
        message = await take_one(receiver)
        await receiver.defer_message(message)
        now = await take_one(receiver)
        same(text(now), "now")
        await receiver.complete_message(now)
        (deferred,) = await receiver.receive_deferred_messages(message.sequence_number)
        same((text(deferred), deferred.session_id), ("late", "a"))
        await receiver.complete_message(deferred)
        same(await receiver.peek_messages(sequence_number=1), [])


@case("session")
async def session_dead_letters(bus):
    await bus.send(of("a", "bad"), "session")
    async with session(bus, "a") as receiver:
        await receiver.dead_letter_message(await take_one(receiver), reason="Broken", error_description="so")
    # The dead letters of sessions are in none.
    async with bus.receiver("session", sub_queue=SubQueue.DEAD_LETTER) as letters:
        letter = await take_one(letters)
        same((text(letter), letter.session_id), ("bad", "a"))
        same((letter.dead_letter_reason, letter.dead_letter_error_description), ("Broken", "so"))
        await letters.complete_message(letter)


@case("session")
async def session_peeked(bus):
    await bus.send(of("a", "a0") + of("b", "b0") + of("a", "a1"), "session")
    async with session(bus, "a") as receiver:
        same(texts(await receiver.peek_messages(9)), ["a0", "a1"])
    async with session(bus, "b") as receiver:
        same(texts(await receiver.peek_messages(9)), ["b0"])


@case("session")
async def session_scheduled(bus):
    due = datetime.now(timezone.utc) + timedelta(seconds=2)
    async with bus.sender("session") as sender:
        (number,) = await sender.schedule_messages(of("a", "a0"), due)
        (gone,) = await sender.schedule_messages(of("a", "gone"), due)
        assert number != gone
        await sender.cancel_scheduled_messages([gone])
    async with session(bus, "a") as receiver:
        same(text(await take_one(receiver)), "a0")
        await is_empty(receiver)


@case("session")
async def session_iterated(bus):
    await bus.send(of("a", *(f"{i}" for i in range(5))), "session")
    seen = []
    async with session(bus, "a", max_wait_time=2) as receiver:
        async for message in receiver:
            seen.append(text(message))
            await receiver.complete_message(message)
    same(seen, [f"{i}" for i in range(5)])
