"""The same port under TLS and as a WebSocket: as on Azure, but for where it is."""

import os

from azure.servicebus import ServiceBusMessage as Message, TransportType

from case import case, same, take_one, text


def elsewhere(bus, transport):
    """A client that is not told of an emulator: TLS, at this address, believing this authority."""
    connection = os.environ["MENTE_SERVICEBUS"]
    flag = "UseDevelopmentEmulator=true;"
    assert flag in connection, connection
    port = connection.split("Endpoint=sb://", 1)[1].split(";", 1)[0].rsplit(":", 1)[1]
    return bus.flavour.connect(
        connection.replace(flag, "").replace(f":{port}", ""),
        transport_type=transport,
        custom_endpoint_address=f"sb://127.0.0.1:{port}",
        connection_verify=os.environ["MENTE_SERVICEBUS_CA"],
    )


async def there_and_back(bus, transport):
    body = "x" * 100_000
    async with elsewhere(bus, transport) as client:
        async with client.get_queue_sender(bus.name()) as sender:
            await sender.send_messages([Message("m"), Message(body)])
        async with client.get_queue_receiver(bus.name()) as receiver:
            for wanted in ("m", body):
                message = await take_one(receiver)
                assert text(message) == wanted, f"another body, of {len(text(message))}"
                await receiver.complete_message(message)
            same(await receiver.peek_messages(sequence_number=1), [])


@case("plain")
async def over_tls(bus):
    await there_and_back(bus, TransportType.Amqp)


@case("plain")
async def over_a_websocket(bus):
    await there_and_back(bus, TransportType.AmqpOverWebsocket)
