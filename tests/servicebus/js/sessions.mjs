// Sessions: exclusive, in order, with a state of their own.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { bodies, completeAll, count, define, isEmpty, past, peekAll, refused, take, takeOne } from "./case.mjs";

function of(sessionId, ...bodies) {
  return bodies.map((body) => ({ body, sessionId }));
}

define("session_named", ["session"], async (bus) => {
  await bus.send([...of("a", "a0", "a1"), ...of("b", "b0")], "session");
  const receiver = await bus.session("a");
  assert.equal(receiver.sessionId, "a");
  assert(receiver.sessionLockedUntilUtc > new Date(), receiver.sessionLockedUntilUtc);
  const came = await take(receiver, 2);
  assert.deepEqual(came.map((m) => [m.body, m.sessionId]), [["a0", "a"], ["a1", "a"]]);
  await completeAll(receiver, came);
  // Another session's are not its own.
  await isEmpty(receiver);
  assert.equal((await takeOne(await bus.session("b"))).body, "b0");
});

define("session_next", ["session"], async (bus) => {
  await bus.send([...of("a", "a0"), ...of("b", "b0")], "session");
  const seen = {};
  for (const _ of count(2)) {
    const receiver = await bus.client.acceptNextSession(bus.name("session"));
    const message = await takeOne(receiver);
    assert.equal(message.sessionId, receiver.sessionId);
    seen[receiver.sessionId] = message.body;
  }
  assert.deepEqual(seen, { a: "a0", b: "b0" });
});

define("session_next_when_there_is_none", ["session"], async (bus) => {
  const client = bus.connect({ timeoutInMs: 3000 });
  await refused("ServiceTimeout", client.acceptNextSession(bus.name("session")));
  await client.close();
});

define("sessions_interleaved", ["session"], async (bus) => {
  await bus.send(count(20).flatMap((i) => [...of("a", `a${i}`), ...of("b", `b${i}`)]), "session");
  const drain = async (name) => {
    const receiver = await bus.session(name);
    const seen = [];
    while (seen.length < 20) {
      for (const message of await receiver.receiveMessages(3, { maxWaitTimeInMs: 10_000 })) {
        seen.push(message.body);
        await receiver.completeMessage(message);
      }
    }
    return seen;
  };
  const seen = await Promise.all([drain("a"), drain("b")]);
  assert.deepEqual(seen, ["a", "b"].map((name) => count(20).map((i) => `${name}${i}`)));
});

define("session_subscribed", ["session"], async (bus) => {
  await bus.send(of("a", ...count(10)), "session");
  const receiver = await bus.session("a");
  const seen = [];
  await new Promise((resolve, reject) => {
    receiver.subscribe({
      processMessage: async (message) => {
        seen.push(message.body);
        if (seen.length === 10) resolve();
      },
      processError: async ({ error }) => reject(error),
    });
  });
  assert.deepEqual(seen, count(10));
});

define("session_is_exclusive", ["session"], async (bus) => {
  await bus.send(of("a", "a0"), "session");
  const receiver = await bus.session("a");
  const other = bus.connect();
  await refused("SessionCannotBeLocked", other.acceptSession(bus.name("session"), "a"));
  await other.close();
  assert.equal((await takeOne(receiver)).body, "a0");
  await receiver.close();
  // Free as soon as it is closed, and what was locked under it with it, not counted.
  const message = await takeOne(await bus.session("a"));
  assert.deepEqual([message.body, message.deliveryCount], ["a0", 0]);
});

define("session_state", ["session"], async (bus) => {
  const receiver = await bus.session("a");
  assert.equal(await receiver.getSessionState(), null);
  await receiver.setSessionState({ step: 1 });
  assert.deepEqual(await receiver.getSessionState(), { step: 1 });
  await receiver.close();
  // It outlives lock and messages.
  const again = await bus.session("a");
  assert.deepEqual(await again.getSessionState(), { step: 1 });
  await again.setSessionState(null);
  assert.equal(await again.getSessionState(), null);
});

define("session_renewed", ["brief-session"], async (bus) => {
  await bus.send(of("a", "a0"), "brief-session");
  const receiver = await bus.session("a", "brief-session");
  const message = await takeOne(receiver);
  const first = receiver.sessionLockedUntilUtc;
  await sleep(3000);
  const renewed = await receiver.renewSessionLock();
  assert(renewed > first, `${renewed} is not behind ${first}`);
  await past(first);
  await receiver.completeMessage(message);
  assert.deepEqual(await peekAll(receiver), []);
});

define("session_lock_lost", ["brief-session"], async (bus) => {
  await bus.send(of("a", "a0"), "brief-session");
  const receiver = await bus.session("a", "brief-session");
  const message = await takeOne(receiver);
  await past(receiver.sessionLockedUntilUtc);
  await refused("SessionLockLost", receiver.renewSessionLock());
  await refused("SessionLockLost", receiver.completeMessage(message));
  const again = await bus.session("a", "brief-session");
  assert.equal((await takeOne(again)).body, "a0");
});

define("session_deferred", ["session"], async (bus) => {
  await bus.send(of("a", "late", "now"), "session");
  const receiver = await bus.session("a");
  const message = await takeOne(receiver);
  await receiver.deferMessage(message);
  const now = await takeOne(receiver);
  assert.equal(now.body, "now");
  await receiver.completeMessage(now);
  const [deferred] = await receiver.receiveDeferredMessages(message.sequenceNumber);
  assert.deepEqual([deferred.body, deferred.sessionId], ["late", "a"]);
  await receiver.completeMessage(deferred);
  assert.deepEqual(await peekAll(receiver), []);
});

define("session_ends_of_messages", ["session"], async (bus) => {
  await bus.send([...of("a", "again", "bad"), ...of("b", "b0")], "session");
  const receiver = await bus.session("a");
  assert.deepEqual(bodies(await receiver.peekMessages(9)), ["again", "bad"]);
  await receiver.abandonMessage(await takeOne(receiver));
  const again = await takeOne(receiver);
  assert.deepEqual([again.body, again.deliveryCount], ["again", 1]);
  await receiver.completeMessage(again);
  await receiver.deadLetterMessage(await takeOne(receiver), { deadLetterReason: "Broken" });
  // The dead letters of sessions are in none.
  const letter = await takeOne(bus.receiver("session", { subQueueType: "deadLetter" }));
  assert.deepEqual([letter.body, letter.sessionId, letter.deadLetterReason], ["bad", "a", "Broken"]);
});
