// Queues, topics and subscriptions: made, changed, looked at and deleted by the administration client, over TLS.

import assert from "node:assert/strict";
import { ServiceBusAdministrationClient } from "@azure/service-bus";
import { count, define, eventually, take, takeOne } from "./case.mjs";

const administration = () => new ServiceBusAdministrationClient(process.env.MENTE_SERVICEBUS_ADMIN);

async function refusedWith(status, call) {
  await assert.rejects(call, (error) => error.statusCode === status || assert.fail(`${error.statusCode}: ${error}`));
}

define("queue_is_made_and_changed", [], async (bus) => {
  const client = administration();
  const name = bus.name();
  const settings = {
    lockDuration: "PT20S",
    maxDeliveryCount: 7,
    requiresSession: true,
    requiresDuplicateDetection: true,
    duplicateDetectionHistoryTimeWindow: "PT3M",
    defaultMessageTimeToLive: "P2D",
    deadLetteringOnMessageExpiration: true,
    autoDeleteOnIdle: "PT1H",
    userMetadata: "<of & ours>",
    enableBatchedOperations: false,
    maxSizeInMegabytes: 2048,
  };
  const made = await client.createQueue(name, settings);
  assert.equal(made.name, name);
  for (const queue of [made, await client.getQueue(name)]) {
    for (const [setting, value] of Object.entries(settings)) assert.equal(queue[setting], value, setting);
  }
  assert(await client.queueExists(name));
  made.maxDeliveryCount = 3;
  made.userMetadata = "other";
  await client.updateQueue(made);
  const changed = await client.getQueue(name);
  assert.deepEqual([changed.maxDeliveryCount, changed.userMetadata, changed.lockDuration], [3, "other", "PT20S"]);
  // What a queue is at birth it stays.
  await refusedWith(400, client.updateQueue({ ...changed, requiresSession: false }));
  await refusedWith(409, client.createQueue(name));
  await client.deleteQueue(name);
  assert.equal(await client.queueExists(name), false);
  await refusedWith(404, client.deleteQueue(name));
});

define("queue_by_default", [], async (bus) => {
  const queue = await administration().createQueue(bus.name());
  assert.deepEqual([queue.lockDuration, queue.maxDeliveryCount, queue.status], ["PT1M", 10, "Active"]);
  assert.deepEqual([queue.requiresSession, queue.requiresDuplicateDetection], [false, false]);
  assert.equal(queue.forwardTo, undefined);
});

define("queue_is_of_use_at_once", [], async (bus) => {
  const client = administration();
  const name = bus.name("with/slash");
  await client.createQueue(name);
  await bus.client.createSender(name).sendMessages({ body: "m" });
  assert.equal((await takeOne(bus.client.createReceiver(name))).body, "m");
  assert.equal((await client.getQueue(name)).name, name);
  await client.deleteQueue(name);
  assert.equal(await client.queueExists(name), false);
});

define("queue_is_counted", ["plain"], async (bus) => {
  const sender = bus.sender();
  await sender.sendMessages(count(5).map((body) => ({ body })));
  await sender.scheduleMessages({ body: "later" }, new Date(Date.now() + 3_600_000));
  const receiver = bus.receiver();
  const [bad, done] = await take(receiver, 3);
  await receiver.deadLetterMessage(bad);
  await receiver.completeMessage(done);
  await takeOne(bus.receiver("plain", { subQueueType: "deadLetter" }));
  const counts = await administration().getQueueRuntimeProperties(bus.name());
  assert.deepEqual(
    [counts.activeMessageCount, counts.deadLetterMessageCount, counts.scheduledMessageCount, counts.totalMessageCount],
    [3, 1, 1, 5],
  );
  assert(Math.abs(Date.now() - counts.createdAt) < 3_600_000, counts.createdAt);
});

define("queues_are_listed_by_pages", [], async (bus) => {
  const client = administration();
  const names = count(30).map((i) => `${bus.name()}.${i}`);
  for (const name of names) await client.createQueue(name);
  const found = [];
  for await (const page of client.listQueues().byPage({ maxPageSize: 7 })) {
    assert(page.length <= 7, page.length);
    found.push(...page.map((queue) => queue.name));
  }
  assert.equal(new Set(found).size, found.length);
  assert.deepEqual(names.filter((name) => !found.includes(name)), []);
});

define("topic_with_subscriptions", [], async (bus) => {
  const client = administration();
  const topic = bus.name("topic");
  const made = await client.createTopic(topic, { defaultMessageTimeToLive: "P1D", userMetadata: "t" });
  assert.deepEqual([made.name, made.defaultMessageTimeToLive, made.userMetadata], [topic, "P1D", "t"]);
  const settings = { lockDuration: "PT15S", maxDeliveryCount: 4, deadLetteringOnMessageExpiration: true };
  const one = await client.createSubscription(topic, "one", settings);
  assert.deepEqual([one.topicName, one.subscriptionName], [topic, "one"]);
  for (const [setting, value] of Object.entries(settings)) assert.equal(one[setting], value, setting);
  await client.createSubscription(topic, "two");
  one.maxDeliveryCount = 9;
  await client.updateSubscription(one);
  assert.equal((await client.getSubscription(topic, "one")).maxDeliveryCount, 9);
  const listed = [];
  for await (const subscription of client.listSubscriptions(topic)) listed.push(subscription.subscriptionName);
  assert.deepEqual(listed.sort(), ["one", "two"]);
  await bus.client.createSender(topic).sendMessages([{ body: "m" }, { body: "n" }]);
  let active;
  await eventually(
    async () => {
      active = (await client.getSubscriptionRuntimeProperties(topic, "one")).activeMessageCount;
      return active === 2;
    },
    () => `${active}`,
  );
  await refusedWith(409, client.createSubscription(topic, "one"));
  await client.deleteSubscription(topic, "two");
  assert.equal(await client.subscriptionExists(topic, "two"), false);
  await client.deleteTopic(topic);
  assert.equal(await client.topicExists(topic), false);
});

define("namespace", [], async () => {
  const properties = await administration().getNamespaceProperties();
  assert(properties.name);
  assert(["Standard", "Premium"].includes(properties.messagingSku), properties.messagingSku);
});
