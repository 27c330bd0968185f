// What a message holds comes back as it was sent.

import assert from "node:assert/strict";
import { bodies, define, take, takeOne } from "./case.mjs";

define("properties", ["plain"], async (bus) => {
  const sent = {
    body: Buffer.from([0, 255]),
    messageId: "the id",
    correlationId: "correlated",
    subject: "a subject",
    contentType: "application/x-test; charset=utf-8",
    partitionKey: "key",
    to: "there",
    replyTo: "here",
    replyToSessionId: "back",
    timeToLive: 300_000,
  };
  await bus.send(sent);
  const message = await takeOne(bus.receiver());
  for (const [name, value] of Object.entries(sent)) assert.deepEqual(message[name], value, name);
  assert.equal(message.sessionId, undefined);
  const expires = message.enqueuedTimeUtc.getTime() + 300_000;
  assert(Math.abs(message.expiresAtUtc - expires) < 1000, message.expiresAtUtc);
});

define("nothing_but_a_body", ["plain"], async (bus) => {
  await bus.send({ body: "bare" });
  const message = await takeOne(bus.receiver());
  for (const name of ["subject", "contentType", "to", "replyTo", "correlationId", "sessionId", "partitionKey"]) {
    assert.equal(message[name], undefined, name);
  }
  assert.deepEqual({ ...message.applicationProperties }, {});
  // Auto-renewal cannot do without one.
  assert(message.messageId);
});

define("application_properties", ["plain"], async (bus) => {
  const moment = new Date("2030-01-02T03:04:05.678Z");
  const sent = {
    text: "tëxt",
    empty: "",
    int: 7,
    negative: -7,
    large: 2 ** 40,
    float: 1.25,
    true: true,
    false: false,
    none: null,
    moment,
    "cloudEvents:custom": "x",
    "with space/and:signs": 1,
  };
  await bus.send({ body: "m", applicationProperties: sent });
  const message = await takeOne(bus.receiver());
  // The SDK tells moments as numbers.
  assert.deepEqual({ ...message.applicationProperties }, { ...sent, moment: moment.getTime() });
});

define("bodies", ["plain"], async (bus) => {
  const sent = ["text", 5, null, true, { a: [1, "x", null] }, Buffer.from([1, 2]), []];
  await bus.send(sent.map((body) => ({ body })));
  const came = await take(bus.receiver(), sent.length);
  assert.deepEqual(bodies(came), sent);
  assert.deepEqual(came.map((message) => message._rawAmqpMessage.bodyType), sent.map(() => "data"));
});

define("bodies_of_values_and_sequences", ["plain"], async (bus) => {
  const values = ["text", 5, true, null, { a: 1, b: "x" }, 2.5];
  const sent = [
    ...values.map((body) => ({ body, bodyType: "value" })),
    { body: [1, "x", true], bodyType: "sequence" },
  ];
  const sender = bus.sender();
  for (const message of sent) await sender.sendMessages(message);
  const came = await take(bus.receiver(), sent.length);
  assert.deepEqual(came.map((message) => message._rawAmqpMessage.bodyType), sent.map((message) => message.bodyType));
  assert.deepEqual(bodies(came.slice(0, values.length)).map(bare), values);
  assert.deepEqual(came.at(-1).body, [1, "x", true]);
});

// The SDK's maps have no prototype of their own.
function bare(value) {
  return value && typeof value === "object" ? { ...value } : value;
}

define("annotated", ["plain"], async (bus) => {
  await bus.send({
    body: Buffer.from("m"),
    bodyType: "data",
    header: { priority: 7, durable: true },
    properties: { messageId: "id", subject: "s", contentEncoding: "identity", userId: "somebody" },
    applicationProperties: { a: 1 },
    messageAnnotations: { "x-opt-mine": "theirs", "x-number": 5 },
    footer: { checked: "by nobody" },
  });
  const raw = (await takeOne(bus.receiver()))._rawAmqpMessage;
  assert.deepEqual([raw.header.priority, raw.header.durable], [7, true]);
  const { messageId, subject, contentEncoding } = raw.properties;
  assert.deepEqual([messageId, subject, contentEncoding], ["id", "s", "identity"]);
  assert.deepEqual({ ...raw.applicationProperties }, { a: 1 });
  assert.equal(raw.messageAnnotations["x-opt-mine"], "theirs");
  assert.equal(raw.messageAnnotations["x-number"], 5);
  assert.equal(raw.footer.checked, "by nobody");
});

define("ids_of_other_types", ["plain"], async (bus) => {
  await bus.send({ body: "m", messageId: 42, correlationId: 43 });
  const message = await takeOne(bus.receiver());
  assert.deepEqual([message.messageId, message.correlationId], [42, 43]);
});

define("large", ["plain"], async (bus) => {
  const body = Buffer.alloc(900_000, Buffer.from([...Array(251).keys()]));
  const sender = bus.sender();
  for (const one of ["before", body, "behind"]) await sender.sendMessages({ body: one });
  const receiver = bus.receiver();
  const came = await take(receiver, 3);
  assert.deepEqual([came[0].body, came[2].body], ["before", "behind"]);
  assert(body.equals(came[1].body), "another body");
  const [peeked] = await receiver.peekMessages(1, { fromSequenceNumber: came[1].sequenceNumber });
  assert(body.equals(peeked.body), "another body when peeked at");
});

define("larger_than_an_event", ["large"], async (bus) => {
  const body = Buffer.alloc(5_000_000, Buffer.from([...Array(251).keys()]));
  const sender = bus.sender("large");
  for (const one of ["before", body, "behind"]) await sender.sendMessages({ body: one });
  const receiver = bus.receiver("large");
  const came = await take(receiver, 3);
  assert.deepEqual([came[0].body, came[2].body], ["before", "behind"]);
  assert(body.equals(came[1].body), "another body");
});
