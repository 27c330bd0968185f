"""What a message holds comes back as it was sent."""

import uuid
from datetime import datetime, timedelta, timezone

from azure.servicebus import ServiceBusMessage as Message, ServiceBusSubQueue as SubQueue
from azure.servicebus.amqp import (
    AmqpAnnotatedMessage as Annotated,
    AmqpMessageBodyType as Body,
    AmqpMessageHeader as Header,
    AmqpMessageProperties as Properties,
)

from case import case, decoded, same, take, take_one, text, texts


@case("plain")
async def properties(bus):
    await bus.send(
        Message(
            b"\x00\xff",
            message_id="the id",
            correlation_id="correlated",
            subject="a subject",
            content_type="application/x-test; charset=utf-8",
            partition_key="key",
            to="there",
            reply_to="here",
            reply_to_session_id="back",
            time_to_live=timedelta(minutes=5),
        )
    )
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
    same(b"".join(message.body), b"\x00\xff")
    same(message.message_id, "the id")
    same(message.correlation_id, "correlated")
    same(message.subject, "a subject")
    same(message.content_type, "application/x-test; charset=utf-8")
    same(message.partition_key, "key")
    same(message.to, "there")
    same(message.reply_to, "here")
    same(message.reply_to_session_id, "back")
    same(message.time_to_live, timedelta(minutes=5))
    same(message.session_id, None)


@case("plain")
async def nothing_but_a_body(bus):
    await bus.send([Message("bare"), Message(b"")])
    async with bus.receiver() as receiver:
        bare, empty = await take(receiver, 2)
    same(texts([bare, empty]), ["bare", ""])
    same((bare.subject, bare.content_type, bare.to, bare.reply_to), (None,) * 4)
    same((bare.correlation_id, bare.session_id, bare.partition_key), (None,) * 3)
    assert not bare.application_properties, bare.application_properties
    # Told to receivers that cannot do without one.
    assert bare.message_id and bare.message_id != empty.message_id


@case("plain")
async def application_properties(bus):
    """Each type that the SDK sends."""
    id = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    moment = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
    sent = {
        "text": "tëxt",
        "empty": "",
        # The SDK sends bytes as a text.
        "bytes": b"of text",
        "int": 7,
        "small": -(2**31),
        "true": True,
        "false": False,
        "float": 1.25,
        "id": id,
        "moment": moment,
        "none": None,
        "cloudEvents:custom": "x",
        "with space/and:signs": 1,
    }
    await bus.send(Message("m", application_properties=sent))
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
    came = {key.decode(): value for key, value in message.application_properties.items()}
    same(sorted(came), sorted(sent))
    same(came["text"], "tëxt".encode())
    same(came["moment"], int(moment.timestamp() * 1000))
    same(came["bytes"], "of text".encode())
    for name in ("int", "small", "float", "id", "none"):
        same(came[name], sent[name])
    same((came["true"], came["false"], came["empty"]), (True, False, b""))
    same({type(came["true"]), type(came["false"])}, {bool})


@case("plain")
async def body_of_sections(bus):
    await bus.send(Annotated(data_body=[b"one", b"two", b""]))
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
    same(message.body_type, Body.DATA)
    same(list(message.body), [b"one", b"two", b""])


@case("plain")
async def body_of_a_value(bus):
    values = ["text", 5, {"a": 1, "b": ["x", None, True]}, b"\x00bytes", None, 2.5]
    async with bus.sender() as sender:
        for value in values:
            await sender.send_messages(Annotated(value_body=value))
    async with bus.receiver() as receiver:
        came = await take(receiver, len(values))
    same([message.body_type for message in came], [Body.VALUE] * len(values))
    same(decoded([message.body for message in came]), decoded(values))


@case("plain")
async def body_of_sequences(bus):
    await bus.send(Annotated(sequence_body=[[1, "x", True], [], [b"y"]]))
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
    same(message.body_type, Body.SEQUENCE)
    same(decoded([list(sequence) for sequence in message.body]), [[1, "x", True], [], ["y"]])


@case("plain")
async def annotated(bus):
    """Sections beside the body, those that are nobody's own."""
    await bus.send(
        Annotated(
            data_body=b"m",
            header=Header(priority=7, durable=True),
            properties=Properties(
                message_id="id",
                user_id=b"somebody",
                subject="s",
                content_encoding="identity",
                group_id=None,
                creation_time=1_700_000_000_000,
            ),
            application_properties={"a": 1},
            annotations={"x-opt-mine": "theirs", "x-number": 5},
            footer={"checked": "by nobody"},
        )
    )
    async with bus.receiver() as receiver:
        raw = (await take_one(receiver)).raw_amqp_message
    same((raw.header.priority, raw.header.durable), (7, True))
    same(decoded(raw.properties.message_id), "id")
    same(decoded(raw.properties.user_id), "somebody")
    same(decoded(raw.properties.subject), "s")
    same(decoded(raw.properties.content_encoding), "identity")
    same(raw.properties.creation_time, 1_700_000_000_000)
    same(decoded(raw.application_properties), {"a": 1})
    annotations = decoded(raw.annotations)
    same((annotations["x-opt-mine"], annotations["x-number"]), ("theirs", 5))
    same(decoded(raw.footer), {"checked": "by nobody"})


@case("plain")
async def ids_of_other_types(bus):
    id = uuid.uuid4()
    await bus.send(Annotated(data_body=b"m", properties=Properties(message_id=id, correlation_id=id)))
    async with bus.receiver() as receiver:
        raw = (await take_one(receiver)).raw_amqp_message
    same((raw.properties.message_id, raw.properties.correlation_id), (id, id))


@case("plain")
async def large(bus):
    """Over many frames, each way, and among small ones."""
    body = bytes(i * 31 % 251 for i in range(900_000))
    async with bus.sender() as sender:
        await sender.send_messages(Message("before"))
        await sender.send_messages(Message(body))
        await sender.send_messages(Message("behind"))
    async with bus.receiver() as receiver:
        before, message, behind = await take(receiver, 3)
        assert b"".join(message.body) == body, "another body"
        same(texts([before, behind]), ["before", "behind"])
        (peeked,) = await receiver.peek_messages(1, sequence_number=message.sequence_number)
        assert b"".join(peeked.body) == body, "another body when peeked at"


@case("large")
async def larger_than_an_event(bus):
    """Its data is kept beside it. Small ones come with it, in their order."""
    body = bytes(i * 31 % 251 for i in range(5_000_000))
    name = bus.name("large")
    # The SDK's own patience with a socket is 0.2 s.
    async with bus.flavour.connect(socket_timeout=60) as client:
        async with client.get_queue_sender(name) as sender:
            await sender.send_messages(Message("before"))
            await sender.send_messages(Message(body, subject="large"))
            await sender.send_messages(Message("behind"))
        async with client.get_queue_receiver(name) as receiver:
            before, message, behind = await take(receiver, 3)
            assert b"".join(message.body) == body, "another body"
            same(texts([before, behind]), ["before", "behind"])
            (peeked,) = await receiver.peek_messages(1, sequence_number=message.sequence_number)
            same((b"".join(peeked.body), peeked.subject), (b"", "large"))
            where = peeked.application_properties[b"cloudEvents:dataref"]
            assert where.startswith(f"/topics/{name}/bodies/".encode()), where
            await receiver.dead_letter_message(message, reason="why")
        async with client.get_queue_receiver(name, sub_queue=SubQueue.DEAD_LETTER) as receiver:
            letter = await take_one(receiver)
            assert b"".join(letter.body) == body, "another body when it is dead"
            same(letter.dead_letter_reason, "why")


@case("plain")
async def sent_on(bus):
    """A message that was received is sent as it came."""
    await bus.send(Message("m", message_id="id", subject="s", application_properties={"a": 1}))
    async with bus.receiver() as receiver:
        message = await take_one(receiver)
        await bus.send(message)
        await receiver.complete_message(message)
        again = await take_one(receiver)
    same((text(again), again.message_id, again.subject), ("m", "id", "s"))
    same(again.application_properties, {b"a": 1})
    same(again.delivery_count, 0)
    assert again.sequence_number > message.sequence_number


@case("plain")
async def spellings(bus):
    """Names are the same in any case."""
    await bus.send(Message("m"))
    async with bus.client.get_queue_receiver(bus.name().upper()) as receiver:
        same(text(await take_one(receiver)), "m")
