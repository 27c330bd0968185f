// Cases against a Service Bus, with @azure/service-bus as it is published.
//
// run.mjs run [CASE...]: one line a case, `ok CASE` or `FAIL CASE: why`; fails if a case does.
// run.mjs list: each case and the kinds of what it needs.
// The environment has connection strings, MENTE_SERVICEBUS and MENTE_SERVICEBUS_ADMIN, and Node trusts the authority of
// both by NODE_EXTRA_CA_CERTS.

import { ServiceBusClient } from "@azure/service-bus";
import { Bus, cases } from "./case.mjs";
import "./queues.mjs";
import "./messages.mjs";
import "./sessions.mjs";
import "./refusals.mjs";
import "./rules.mjs";
import "./administration.mjs";
import "./transports.mjs";

// Of one case; the longest waits of its own are some locks of 5 s.
const PATIENCE = 90_000;

function connect(options = {}) {
  // A case is to see what fails, not what a retry makes of it.
  const retryOptions = { maxRetries: 0, timeoutInMs: 30_000, ...options };
  return new ServiceBusClient(process.env.MENTE_SERVICEBUS, { retryOptions });
}

async function run(name) {
  const client = connect();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it does not end")), PATIENCE);
  });
  try {
    await Promise.race([cases.get(name).run(new Bus(client, connect, name)), late]);
    await Promise.race([client.close(), late]);
  } finally {
    clearTimeout(timer);
    client.close().catch(() => {});
  }
}

// The innermost line of ours that led to it.
function where(error) {
  const line = /\/tests\/servicebus\/js\/((?!case)\w+\.mjs:\d+)/.exec(error?.stack ?? "");
  return line ? ` (${line[1]})` : "";
}

let failed = 0;
// What nobody waited for: a case's fault, whichever it is of.
let stray = null;
process.on("unhandledRejection", (error) => (stray = error));
process.on("uncaughtException", (error) => (stray = error));

const [word, ...wanted] = process.argv.slice(2);
if (word === "list") {
  for (const [name, { kinds }] of cases) console.log([name, ...kinds].join(" "));
} else if (word === "run") {
  for (const name of wanted.length ? wanted : cases.keys()) {
    stray = null;
    try {
      await run(name);
      if (stray) throw stray;
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}: ${`${error}`.replaceAll(/\s+/g, " ").trim()}${where(error)}`);
    }
  }
  process.exit(failed ? 1 : 0);
} else {
  throw new Error(`unknown word ${word}`);
}
