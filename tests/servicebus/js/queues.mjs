// Sending, receiving, locks, and the ends that a message has.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { bodies, completeAll, count, define, eventually, isEmpty, past, peekAll, refused, take, takeOne } from "./case.mjs";

define("send_and_complete", ["plain"], async (bus) => {
  await bus.send({ body: "one" });
  const receiver = bus.receiver();
  const message = await takeOne(receiver);
  assert.equal(message.body, "one");
  assert.equal(message.deliveryCount, 0);
  assert(message.sequenceNumber.greaterThan(0));
  assert.match(message.lockToken, /^[0-9a-f-]{36}$/);
  assert(message.lockedUntilUtc > message.enqueuedTimeUtc);
  assert(Math.abs(Date.now() - message.enqueuedTimeUtc) < 60_000, message.enqueuedTimeUtc);
  await receiver.completeMessage(message);
  await isEmpty(receiver);
  assert.deepEqual(await peekAll(receiver), []);
});

define("send_array", ["plain"], async (bus) => {
  await bus.send(count(10).map((i) => ({ body: i })));
  const receiver = bus.receiver();
  const came = await take(receiver, 10);
  assert.deepEqual(bodies(came), count(10));
  const first = came[0].sequenceNumber.toNumber();
  assert.deepEqual(came.map((message) => message.sequenceNumber.toNumber()), count(10).map((i) => first + i));
  await completeAll(receiver, came);
  assert.deepEqual(await peekAll(receiver), []);
});

define("send_batch", ["plain"], async (bus) => {
  const sender = bus.sender();
  const batch = await sender.createMessageBatch();
  for (const i of count(100)) {
    assert(batch.tryAddMessage({ body: i, messageId: `id-${i}`, applicationProperties: { i } }));
  }
  await sender.sendMessages(batch);
  const came = await take(bus.receiver(), 100);
  assert.deepEqual(bodies(came), count(100));
  assert.deepEqual(came.map((message) => message.messageId), count(100).map((i) => `id-${i}`));
  assert.deepEqual(came.map((message) => message.applicationProperties.i), count(100));
});

define("batch_has_an_end", ["plain"], async (bus) => {
  const sender = bus.sender();
  assert((await sender.createMessageBatch()).maxSizeInBytes >= 256 * 1024);
  const batch = await sender.createMessageBatch({ maxSizeInBytes: 1000 });
  while (batch.tryAddMessage({ body: "a".repeat(300) })) assert(batch.count < 4);
  assert(batch.count >= 1);
  await sender.sendMessages(batch);
  const receiver = bus.receiver();
  assert.deepEqual(bodies(await take(receiver, batch.count)), Array(batch.count).fill("a".repeat(300)));
  await isEmpty(receiver);
});

define("abandon", ["plain"], async (bus) => {
  await bus.send([{ body: "first", applicationProperties: { kept: 1, changed: 1 } }, { body: "second" }]);
  const receiver = bus.receiver();
  const message = await takeOne(receiver);
  assert.deepEqual([message.body, message.deliveryCount], ["first", 0]);
  await receiver.abandonMessage(message, { changed: 2, added: "x" });
  // Back in its place, not behind the other one.
  const again = await takeOne(receiver);
  assert.deepEqual([again.body, again.deliveryCount], ["first", 1]);
  assert.deepEqual({ ...again.applicationProperties }, { kept: 1, changed: 2, added: "x" });
  assert(again.sequenceNumber.equals(message.sequenceNumber));
  assert.notEqual(again.lockToken, message.lockToken);
  await receiver.completeMessage(again);
  assert.equal((await takeOne(receiver)).body, "second");
});

define("dead_letter", ["plain"], async (bus) => {
  await bus.send({ body: "bad", messageId: "m", applicationProperties: { kept: "yes" } });
  const receiver = bus.receiver();
  const options = { deadLetterReason: "Broken", deadLetterErrorDescription: "it does not parse", added: 5 };
  await receiver.deadLetterMessage(await takeOne(receiver), options);
  await isEmpty(receiver);
  const letters = bus.receiver("plain", { subQueueType: "deadLetter" });
  const letter = await takeOne(letters);
  assert.deepEqual([letter.body, letter.messageId], ["bad", "m"]);
  assert.deepEqual([letter.deadLetterReason, letter.deadLetterErrorDescription], ["Broken", "it does not parse"]);
  assert.equal(letter.applicationProperties.kept, "yes");
  assert.equal(letter.applicationProperties.added, 5);
  await bus.send({ body: letter.body, messageId: letter.messageId });
  await letters.completeMessage(letter);
  assert.deepEqual(await peekAll(letters), []);
  assert.equal((await takeOne(receiver)).body, "bad");
});

define("defer", ["plain"], async (bus) => {
  await bus.send([{ body: "late" }, { body: "now" }]);
  const receiver = bus.receiver();
  const message = await takeOne(receiver);
  assert.equal(message.body, "late");
  await receiver.deferMessage(message, { why: "not yet" });
  const now = await takeOne(receiver);
  assert.equal(now.body, "now");
  await receiver.completeMessage(now);
  await isEmpty(receiver);
  const peeked = await peekAll(receiver);
  assert.deepEqual(peeked.map((p) => [p.body, p.state]), [["late", "deferred"]]);
  const [deferred] = await receiver.receiveDeferredMessages(message.sequenceNumber);
  assert.equal(deferred.body, "late");
  assert.equal(deferred.applicationProperties.why, "not yet");
  assert(deferred.sequenceNumber.equals(message.sequenceNumber));
  await receiver.completeMessage(deferred);
  await refused("MessageNotFound", receiver.receiveDeferredMessages(message.sequenceNumber));
  assert.deepEqual(await peekAll(receiver), []);
});

define("deferred_dead_letter", ["plain"], async (bus) => {
  await bus.send({ body: "bad" });
  const receiver = bus.receiver();
  const message = await takeOne(receiver);
  await receiver.deferMessage(message);
  const [deferred] = await receiver.receiveDeferredMessages([message.sequenceNumber]);
  await receiver.deadLetterMessage(deferred, { deadLetterReason: "after all" });
  const letter = await takeOne(bus.receiver("plain", { subQueueType: "deadLetter" }));
  assert.deepEqual([letter.body, letter.deadLetterReason], ["bad", "after all"]);
});

define("receive_and_delete", ["plain"], async (bus) => {
  await bus.send([{ body: "one" }, { body: "two" }]);
  const receiver = bus.receiver("plain", { receiveMode: "receiveAndDelete" });
  assert.deepEqual(bodies(await take(receiver, 2)), ["one", "two"]);
  assert.deepEqual(await peekAll(receiver), []);
  await isEmpty(receiver);
});

define("peek", ["plain"], async (bus) => {
  await bus.send(count(5).map((i) => ({ body: i })));
  const receiver = bus.receiver();
  const peeked = await receiver.peekMessages(3);
  assert.deepEqual(peeked.map((p) => [p.body, p.state]), [[0, "active"], [1, "active"], [2, "active"]]);
  // It goes on behind.
  assert.deepEqual(bodies(await receiver.peekMessages(9)), [3, 4]);
  const from = { fromSequenceNumber: peeked[1].sequenceNumber };
  assert.deepEqual(bodies(await receiver.peekMessages(9, from)), [1, 2, 3, 4]);
  // Nothing was locked, and what is locked is shown.
  const message = await takeOne(receiver);
  assert.deepEqual([message.body, message.deliveryCount], [0, 0]);
  assert.deepEqual(bodies(await peekAll(receiver)), count(5));
});

define("schedule", ["plain"], async (bus) => {
  const due = new Date(Date.now() + 3000);
  const sender = bus.sender();
  const numbers = await sender.scheduleMessages([{ body: "a" }, { body: "b" }], due);
  assert.equal(numbers.length, 2);
  const receiver = bus.receiver();
  const peeked = await peekAll(receiver);
  assert.deepEqual(peeked.map((p) => [p.body, p.state]), [["a", "scheduled"], ["b", "scheduled"]]);
  assert.deepEqual(peeked.map((p) => `${p.sequenceNumber}`), numbers.map(String));
  const came = await take(receiver, 2);
  assert.deepEqual(bodies(came).sort(), ["a", "b"]);
  assert(Date.now() >= due.getTime());
  for (const message of came) assert(message.enqueuedTimeUtc >= due, message.enqueuedTimeUtc);
});

define("schedule_and_cancel", ["plain"], async (bus) => {
  const due = new Date(Date.now() + 3_600_000);
  const sender = bus.sender();
  const [kept, gone] = await sender.scheduleMessages([{ body: "kept" }, { body: "gone" }], due);
  const [one] = await sender.scheduleMessages({ body: "one" }, due);
  await sender.cancelScheduledMessages(gone);
  await sender.cancelScheduledMessages([one]);
  await refused("MessageNotFound", sender.cancelScheduledMessages(gone));
  const peeked = await peekAll(bus.receiver());
  assert.deepEqual(peeked.map((p) => [p.body, `${p.sequenceNumber}`]), [["kept", `${kept}`]]);
  assert.equal(new Date(peeked[0].scheduledEnqueueTimeUtc).getTime(), due.getTime());
});

define("scheduled_by_its_property", ["plain"], async (bus) => {
  const due = new Date(Date.now() + 3000);
  await bus.send([{ body: "later", scheduledEnqueueTimeUtc: due }, { body: "now" }]);
  assert.deepEqual(bodies(await take(bus.receiver(), 2)), ["now", "later"]);
  assert(Date.now() >= due.getTime());
});

define("subscribe", ["plain"], async (bus) => {
  await bus.send(count(30).map((i) => ({ body: i })));
  const receiver = bus.receiver();
  const seen = [];
  const errors = [];
  const subscription = receiver.subscribe(
    {
      processMessage: async (message) => {
        if (message.body === 7 && message.deliveryCount === 0) throw new Error("once");
        seen.push(message.body);
      },
      processError: async ({ error }) => errors.push(`${error}`),
    },
    { maxConcurrentCalls: 5 },
  );
  await eventually(() => seen.length === 30, () => JSON.stringify(seen));
  await subscription.close();
  assert.deepEqual([...seen].sort((a, b) => a - b), count(30));
  assert.deepEqual(errors, ["Error: once"]);
  // Each was completed when its handler was through, and one that failed was abandoned.
  assert.deepEqual(await peekAll(receiver), []);
});

define("subscribe_and_settle", ["plain"], async (bus) => {
  await bus.send([{ body: "done" }, { body: "bad" }]);
  const receiver = bus.receiver();
  const seen = [];
  receiver.subscribe(
    {
      processMessage: async (message) => {
        if (message.body === "bad") await receiver.deadLetterMessage(message, { deadLetterReason: "Broken" });
        else await receiver.completeMessage(message);
        seen.push(message.body);
      },
      processError: async ({ error }) => seen.push(`${error}`),
    },
    { autoCompleteMessages: false },
  );
  await eventually(() => seen.length === 2, () => JSON.stringify(seen));
  assert.deepEqual(seen, ["done", "bad"]);
  const letter = await takeOne(bus.receiver("plain", { subQueueType: "deadLetter" }));
  assert.deepEqual([letter.body, letter.deadLetterReason], ["bad", "Broken"]);
});

define("iterate", ["plain"], async (bus) => {
  await bus.send(count(5).map((i) => ({ body: i })));
  const receiver = bus.receiver();
  const seen = [];
  for await (const message of receiver.getMessageIterator()) {
    seen.push(message.body);
    await receiver.completeMessage(message);
    if (seen.length === 5) break;
  }
  assert.deepEqual(seen, count(5));
});

define("receivers_share", ["plain"], async (bus) => {
  const seen = [];
  const receivers = count(3).map(() => bus.receiver());
  for (const receiver of receivers) {
    receiver.subscribe({
      processMessage: async (message) => void seen.push(message.body),
      processError: async ({ error }) => seen.push(`${error}`),
    });
  }
  const fill = async (who) => {
    const sender = bus.sender();
    for (const i of count(25)) await sender.sendMessages({ body: `${who}-${i}` });
  };
  await Promise.all(count(4).map(fill));
  await eventually(() => seen.length >= 100, () => `${seen.length}`);
  await sleep(500);
  const wanted = count(4).flatMap((who) => count(25).map((i) => `${who}-${i}`));
  assert.deepEqual(seen.sort(), wanted.sort());
});

define("renew_lock", ["short"], async (bus) => {
  await bus.send({ body: "held" }, "short");
  const receiver = bus.receiver("short");
  const message = await takeOne(receiver);
  const first = message.lockedUntilUtc;
  await sleep(3000);
  const renewed = await receiver.renewMessageLock(message);
  assert(renewed > first, `${renewed} is not behind ${first}`);
  await past(first);
  await isEmpty(receiver);
  await receiver.completeMessage(message);
  assert.deepEqual(await peekAll(receiver), []);
});

define("renewed_by_itself", ["short"], async (bus) => {
  await bus.send({ body: "held" }, "short");
  const receiver = bus.receiver("short", { maxAutoLockRenewalDurationInMs: 60_000 });
  const message = await takeOne(receiver);
  await past(new Date(message.lockedUntilUtc.getTime() + 4000));
  await receiver.completeMessage(message);
  assert.deepEqual(await peekAll(receiver), []);
});

define("lock_lost", ["short"], async (bus) => {
  await bus.send({ body: "held" }, "short");
  const receiver = bus.receiver("short");
  const message = await takeOne(receiver);
  await past(message.lockedUntilUtc);
  await refused("MessageLockLost", receiver.renewMessageLock(message));
  await refused("MessageLockLost", receiver.completeMessage(message));
  const again = await takeOne(receiver);
  assert.deepEqual([again.body, again.deliveryCount], ["held", 1]);
  await receiver.completeMessage(again);
});

define("settled_without_a_link", ["plain"], async (bus) => {
  // A receiver that is closed settles by $management: its lock outlives the link.
  await bus.send([{ body: "done" }, { body: "dead" }, { body: "again" }]);
  const receiver = bus.receiver();
  const [done, dead, again] = await take(receiver, 3);
  await receiver.completeMessage(done);
  await receiver.deadLetterMessage(dead, { deadLetterReason: "r" });
  await receiver.abandonMessage(again);
  assert.deepEqual(bodies(await peekAll(receiver)), ["again"]);
});

define("too_many_deliveries", ["short"], async (bus) => {
  await bus.send({ body: "bad", messageId: "m" }, "short");
  const receiver = bus.receiver("short");
  for (const i of count(3)) {
    const message = await takeOne(receiver);
    assert.equal(message.deliveryCount, i);
    await receiver.abandonMessage(message);
  }
  await isEmpty(receiver);
  const letter = await takeOne(bus.receiver("short", { subQueueType: "deadLetter" }));
  assert.deepEqual([letter.body, letter.messageId], ["bad", "m"]);
  assert.equal(letter.deadLetterReason, "MaxDeliveryCountExceeded");
});

define("expired", ["ttl"], async (bus) => {
  await bus.send([{ body: "stale", messageId: "m" }, { body: "too", timeToLive: 3_600_000 }], "ttl");
  const came = await take(bus.receiver("ttl", { subQueueType: "deadLetter" }), 2);
  assert.deepEqual(bodies(came), ["stale", "too"]);
  assert.deepEqual(came.map((letter) => letter.deadLetterReason), Array(2).fill("TTLExpiredException"));
  await isEmpty(bus.receiver("ttl"));
});

define("duplicates", ["dedup"], async (bus) => {
  const sender = bus.sender("dedup");
  await sender.sendMessages({ body: "first", messageId: "a" });
  await sender.sendMessages({ body: "again", messageId: "a" });
  await sender.sendMessages([{ body: "b", messageId: "b" }, { body: "b again", messageId: "b" }]);
  const receiver = bus.receiver("dedup");
  const came = await take(receiver, 2);
  assert.deepEqual(bodies(came), ["first", "b"]);
  await completeAll(receiver, came);
  // Done with, and known still.
  await sender.sendMessages([{ body: "too late", messageId: "a" }, { body: "c", messageId: "c" }]);
  assert.equal((await takeOne(receiver)).body, "c");
  await isEmpty(receiver);
});

define("topic_to_each_subscription", ["topic"], async (bus) => {
  const topic = bus.name("topic");
  await bus.send([{ body: "a", subject: "s", applicationProperties: { n: 1 } }, { body: "b" }], "topic");
  for (const name of ["one", "two"]) {
    const receiver = bus.client.createReceiver(topic, name);
    const came = await take(receiver, 2);
    assert.deepEqual(bodies(came), ["a", "b"]);
    assert.deepEqual([came[0].subject, came[0].applicationProperties.n], ["s", 1]);
    if (name === "one") await receiver.deadLetterMessage(came[0], { deadLetterReason: "Broken" });
    else await completeAll(receiver, came);
  }
  const letters = bus.client.createReceiver(topic, "one", { subQueueType: "deadLetter" });
  assert.equal((await takeOne(letters)).deadLetterReason, "Broken");
  await isEmpty(bus.client.createReceiver(topic, "two", { subQueueType: "deadLetter" }));
});
