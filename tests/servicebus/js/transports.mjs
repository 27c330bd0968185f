// The same port under TLS and as a WebSocket: as on Azure, but for where it is.

import assert from "node:assert/strict";
import { ServiceBusClient } from "@azure/service-bus";
import WebSocket from "ws";
import { define, takeOne } from "./case.mjs";

// A client that is not told of an emulator: TLS, at this address; Node believes the authority already.
async function thereAndBack(bus, options) {
  const [whole, host, port] = /Endpoint=sb:\/\/([^:;]+):(\d+)/.exec(process.env.MENTE_SERVICEBUS);
  const connection = process.env.MENTE_SERVICEBUS.replace("UseDevelopmentEmulator=true;", "");
  assert.notEqual(connection, process.env.MENTE_SERVICEBUS);
  const client = new ServiceBusClient(connection.replace(whole, `Endpoint=sb://${host}`), {
    customEndpointAddress: `sb://${host}:${port}`,
    retryOptions: { maxRetries: 0, timeoutInMs: 30_000 },
    ...options,
  });
  const body = "x".repeat(100_000);
  await client.createSender(bus.name()).sendMessages([{ body: "m" }, { body }]);
  const receiver = client.createReceiver(bus.name());
  for (const wanted of ["m", body]) {
    const message = await takeOne(receiver);
    assert(message.body === wanted, `another body, of ${message.body.length}`);
    await receiver.completeMessage(message);
  }
  assert.deepEqual(await receiver.peekMessages(1), []);
  await client.close();
}

define("over_tls", ["plain"], (bus) => thereAndBack(bus, {}));
define("over_a_websocket", ["plain"], (bus) => thereAndBack(bus, { webSocketOptions: { webSocket: WebSocket } }));
