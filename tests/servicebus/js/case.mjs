// A case: what it needs, and words in which cases are said.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import Long from "long";

export const cases = new Map();
// For whatever must happen soon; long, since machines are busy.
const SOON = 30_000;

// A case of the queues or topics of these kinds (tests/servicebus/entities.json), which it has to itself.
export function define(name, kinds, run) {
  cases.set(name, { kinds, run });
}

// The bus as one case sees it.
export class Bus {
  constructor(client, connect, name) {
    this.client = client;
    // Another client, with other options.
    this.connect = connect;
    this.case = name;
  }

  name(kind = "plain") {
    return `${kind}.${this.case}`;
  }

  sender(kind = "plain") {
    return this.client.createSender(this.name(kind));
  }

  // Locks are not renewed behind the case's back.
  receiver(kind = "plain", options = {}) {
    return this.client.createReceiver(this.name(kind), { maxAutoLockRenewalDurationInMs: 0, ...options });
  }

  session(id, kind = "session", options = {}) {
    return this.client.acceptSession(this.name(kind), id, { maxAutoLockRenewalDurationInMs: 0, ...options });
  }

  async send(messages, kind = "plain") {
    const sender = this.sender(kind);
    await sender.sendMessages(messages);
    await sender.close();
  }
}

// Exactly so many messages, in the order in which they came.
export async function take(receiver, count) {
  const taken = [];
  const until = Date.now() + SOON;
  while (taken.length < count) {
    const left = until - Date.now();
    assert(left > 0, `${taken.length} of ${count} messages came: ${JSON.stringify(bodies(taken))}`);
    taken.push(...(await receiver.receiveMessages(count - taken.length, { maxWaitTimeInMs: left })));
  }
  assert.equal(taken.length, count);
  return taken;
}

export async function takeOne(receiver) {
  return (await take(receiver, 1))[0];
}

export async function isEmpty(receiver) {
  const came = await receiver.receiveMessages(1, { maxWaitTimeInMs: 1000 });
  assert.deepEqual(bodies(came), []);
}

export async function completeAll(receiver, messages) {
  for (const message of messages) await receiver.completeMessage(message);
}

// All of a view that can be peeked at.
export function peekAll(receiver, count = 100) {
  return receiver.peekMessages(count, { fromSequenceNumber: Long.ONE });
}

export async function eventually(isSo, what) {
  const until = Date.now() + SOON;
  while (!(await isSo())) {
    assert(Date.now() < until, `${what()}: what was to come did not`);
    await sleep(50);
  }
}

// The call must end with an error of that code, which is given back.
export async function refused(code, call) {
  let answer;
  try {
    answer = await call;
  } catch (error) {
    assert.equal(error.code, code, `${error}`);
    return error;
  }
  assert.fail(`it was answered ${answer} and not refused with ${code}`);
}

// Waits until shortly behind a moment.
export function past(moment) {
  return sleep(Math.max(0, moment.getTime() - Date.now()) + 500);
}

export function bodies(messages) {
  return messages.map((message) => message.body);
}

export function count(n) {
  return [...Array(n).keys()];
}

