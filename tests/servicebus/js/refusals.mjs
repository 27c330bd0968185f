// What is refused, by which name.

import assert from "node:assert/strict";
import { define, isEmpty, refused, takeOne } from "./case.mjs";

define("unknown_queue", [], async (bus) => {
  await refused("MessagingEntityNotFound", bus.client.createSender("nothing").sendMessages({ body: "m" }));
  await refused("MessagingEntityNotFound", bus.client.createReceiver("nothing").receiveMessages(1));
  await refused("MessagingEntityNotFound", bus.client.createReceiver("nothing").peekMessages(1));
});

define("unknown_subscription", ["topic"], async (bus) => {
  const receiver = bus.client.createReceiver(bus.name("topic"), "three");
  await refused("MessagingEntityNotFound", receiver.receiveMessages(1));
});

define("no_session_where_one_is_needed", ["session"], async (bus) => {
  const receiving = bus.receiver("session").receiveMessages(1, { maxWaitTimeInMs: 2000 });
  await assert.rejects(receiving, /session/i);
  await assert.rejects(bus.send({ body: "of none" }, "session"), /session/i);
});

define("session_where_there_are_none", ["plain"], async (bus) => {
  await assert.rejects(bus.session("a", "plain"), /session/i);
  // A session's name is a property like others there.
  await bus.send({ body: "m", sessionId: "a" });
  const message = await takeOne(bus.receiver());
  assert.deepEqual([message.body, message.sessionId], ["m", "a"]);
});

define("too_large", ["plain"], async (bus) => {
  const sender = bus.sender();
  await refused("MessageSizeExceeded", sender.sendMessages({ body: Buffer.alloc(2 << 20) }));
  // The sender is of use still.
  await sender.sendMessages({ body: "small" });
  const receiver = bus.receiver();
  assert.equal((await takeOne(receiver)).body, "small");
  await isEmpty(receiver);
});
