// Sends and reads Mente's CloudEvents with the npm package `cloudevents`, unmodified.
//
// usage: node cloudevents_modes.mjs publish|read SERVER TOPIC
//
// The counterpart of tests/python/cloudevents_modes.py, which says what goes in and out. The
// package reads batches and does not write them: one is an array of its structured events.

import { readFileSync } from "node:fs";
import { request } from "node:http";
import { CloudEvent, HTTP } from "cloudevents";

const CASES = JSON.parse(readFileSync(new URL("../cloudevents/cases.json", import.meta.url), "utf8"));
const BATCH = "application/cloudevents-batch+json";
const STRUCTURED = "application/cloudevents+json";
const TIME = "2026-11-30T12:00:00.125Z";

/** node:http and not fetch, which would add a content type to every body that is a string. */
function call(url, { method = "GET", headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => {
        const bytes = Buffer.concat(chunks);
        if (answer.statusCode !== 200) reject(new Error(`${url}: ${answer.statusCode} ${bytes}`));
        // The package parses strings; whoever hands over the message knows what is text.
        const binary = (answer.headers["content-type"] ?? "").startsWith("application/octet-stream");
        resolve({ headers: answer.headers, body: binary ? bytes : bytes.toString() });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

function event({ name, attributes, json, text, base64 }) {
  const data = base64 === undefined ? (json ?? text) : Buffer.from(base64, "base64");
  return new CloudEvent({ id: name, source: "/js", type: "case", time: TIME, ...attributes, data });
}

/** What another program can compare: attributes without their defaults, data by kind. */
function shown(event) {
  const { id, source, type, specversion, time, data, data_base64, ...rest } = event;
  const attributes = JSON.parse(JSON.stringify(rest));
  if (new Date(time).toISOString() !== TIME) attributes.time = "another";
  if (ArrayBuffer.isView(data)) {
    // Structured mode gives a Uint32Array of bytes: Buffer.from takes each element as one.
    return { attributes, base64: Buffer.from(data).toString("base64") };
  }
  if (typeof data === "string") return { attributes, text: data };
  return data === undefined || data === null ? { attributes } : { attributes, json: data };
}

async function publish(url) {
  const places = { binary: {}, structured: {}, batch: {} };
  const place = ({ partition, offset }) => `${partition}:${offset}`;
  for (const mode of ["binary", "structured"]) {
    for (const one of CASES) {
      try {
        const { headers, body } = HTTP[mode](event(one));
        const answer = await call(url, { method: "POST", headers, body });
        places[mode][one.name] = place(JSON.parse(answer.body));
      } catch (error) {
        places[mode][one.name] = `refused: ${error.code ?? error.message}`;
      }
    }
  }
  // The package writes `data` beside `data_base64` for empty bytes, which the specification
  // forbids and Mente refuses: alone above, and here it would be the whole batch.
  const batch = CASES.filter((one) => one.base64 !== "");
  const body = `[${batch.map((one) => HTTP.structured(event(one)).body)}]`;
  const answer = await call(url, { method: "POST", headers: { "content-type": BATCH }, body });
  JSON.parse(answer.body).events.forEach((found, index) => {
    places.batch[batch[index].name] = place(found);
  });
  return places;
}

async function read(url, places) {
  const found = {};
  const parse = (message) => {
    try {
      const event = HTTP.toEvent(message);
      return shown(Array.isArray(event) ? event[0] : event);
    } catch (error) {
      return { unreadable: error.message };
    }
  };
  for (const [mode, cases] of Object.entries(places)) {
    for (const [name, position] of Object.entries(cases)) {
      if (position.startsWith("refused")) continue;
      const offset = position.split(":")[1];
      found[`${mode} ${name}`] = {
        binary: parse(await call(`${url}/${position}`)),
        structured: parse(await call(`${url}/${position}`, { headers: { accept: STRUCTURED } })),
        batch: parse(await call(`${url}?partition=0&from=${offset}&limit=1`)),
      };
    }
  }
  return found;
}

const [verb, server, topic] = process.argv.slice(2);
const url = `${server}/topics/${topic}/events`;
const answer =
  verb === "publish" ? await publish(url) : await read(url, JSON.parse(readFileSync(0, "utf8")));
console.log(JSON.stringify(answer));
