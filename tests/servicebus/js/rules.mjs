// Rules of subscriptions, by the administration client and by the one that speaks AMQP.

import assert from "node:assert/strict";
import { ServiceBusAdministrationClient } from "@azure/service-bus";
import { bodies, define, isEmpty, take, takeOne } from "./case.mjs";

async function all(iterator) {
  const found = [];
  for await (const item of iterator) found.push(item);
  return found;
}

// So many messages and no more, by their bodies.
async function got(bus, subscription, count) {
  const receiver = bus.client.createReceiver(bus.name("topic"), subscription);
  const came = await take(receiver, count);
  for (const message of came) await receiver.completeMessage(message);
  await isEmpty(receiver);
  await receiver.close();
  return came.sort((a, b) => (a.body < b.body ? -1 : 1));
}

const publish = (bus, messages) => bus.client.createSender(bus.name("topic")).sendMessages(messages);

define("rules_are_managed_over_amqp", ["topic"], async (bus) => {
  const rules = bus.client.createRuleManager(bus.name("topic"), "one");
  const [first] = await all(rules.listRules());
  assert.deepEqual([first.name, first.filter], ["$Default", { sqlExpression: "1=1" }]);
  await rules.createRule("sql", { sqlExpression: "a = 1" }, { sqlExpression: "SET b = 2" });
  await rules.createRule("correlation", { subject: "l", applicationProperties: { p: "q", n: 7, f: true } });
  await assert.rejects(rules.createRule("sql", { sqlExpression: "a = 1" }), /exists/);
  await assert.rejects(rules.createRule("bad", { sqlExpression: "a ==" }), /filter/);
  await rules.deleteRule("$Default");
  await assert.rejects(rules.deleteRule("$Default"), /rule/);
  const found = Object.fromEntries((await all(rules.listRules())).map((rule) => [rule.name, rule]));
  assert.deepEqual(Object.keys(found).sort(), ["correlation", "sql"]);
  assert.deepEqual([found.sql.filter, found.sql.action], [{ sqlExpression: "a = 1" }, { sqlExpression: "SET b = 2" }]);
  const { subject, applicationProperties, messageId } = found.correlation.filter;
  assert.deepEqual([subject, applicationProperties, messageId], ["l", { p: "q", n: 7, f: true }, null]);
  await publish(bus, [
    { body: "a", applicationProperties: { a: 1 } },
    { body: "b", subject: "l", applicationProperties: { p: "q", n: 7, f: true } },
    { body: "c", subject: "l", applicationProperties: { p: "Q", n: 7, f: true } },
  ]);
  const came = await got(bus, "one", 2);
  assert.deepEqual(bodies(came), ["a", "b"]);
  assert.deepEqual(came[0].applicationProperties, { a: 1, b: 2, RuleName: "sql" });
  await rules.deleteRule("sql");
  await rules.deleteRule("correlation");
  // Of none the SDK makes one that is undefined.
  assert.deepEqual(await all(rules.listRules()), [undefined]);
  await publish(bus, { body: "d" });
  await isEmpty(bus.client.createReceiver(bus.name("topic"), "one"));
});

define("rules_are_made_changed_and_removed", ["topic"], async (bus) => {
  const client = new ServiceBusAdministrationClient(process.env.MENTE_SERVICEBUS_ADMIN);
  const of = [bus.name("topic"), "one"];
  const sql = { sqlExpression: "a = @a", sqlParameters: { "@a": "x" } };
  const made = await client.createRule(...of, "sql", sql, { sqlExpression: "SET b = 1" });
  assert.deepEqual([made.name, made.filter.sqlExpression], ["sql", "a = @a"]);
  await client.createRule(...of, "correlation", { correlationId: "c", applicationProperties: { p: "q" } });
  const names = (await all(client.listRules(...of))).map((rule) => rule.name);
  assert.deepEqual(names.sort(), ["$Default", "correlation", "sql"]);
  const found = await client.getRule(...of, "sql");
  assert.deepEqual(found.filter.sqlParameters, { "@a": "x" });
  assert.equal(found.action.sqlExpression, "SET b = 1");
  const correlation = (await client.getRule(...of, "correlation")).filter;
  assert.deepEqual([correlation.correlationId, correlation.applicationProperties], ["c", { p: "q" }]);
  await client.updateRule(...of, { ...found, filter: { sqlExpression: "a = 'y'" } });
  assert.equal((await client.getRule(...of, "sql")).filter.sqlExpression, "a = 'y'");
  await client.deleteRule(...of, "sql");
  assert.equal(await client.ruleExists(...of, "sql"), false);
  // A subscription whose first rule is another.
  const only = { name: "blue", filter: { sqlExpression: "color = 'blue'" } };
  await client.createSubscription(bus.name("topic"), "mine", { defaultRuleOptions: only });
  const [first, ...others] = await all(client.listRules(bus.name("topic"), "mine"));
  assert.deepEqual([first.name, others.length], ["blue", 0]);
  await publish(bus, [{ body: "r" }, { body: "b", applicationProperties: { color: "blue" } }]);
  assert.equal((await takeOne(bus.client.createReceiver(bus.name("topic"), "mine"))).body, "b");
});
