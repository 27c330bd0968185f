// Every event of the shop's topics as it comes. The list holds the newest and says how many
// older ones it let go.

import { byId, el, freshen } from "./dom.js";

const ROWS_MAX = 60;
const HUES = { orders: "notify", shipments: "notify", notices: "notify", catalogue: "transfer" };

export function begin(recent, number) {
  const rows = recent.slice(-ROWS_MAX).reverse().map(row);
  byId("events").replaceChildren(...rows);
  count(number);
}

export function add(moved) {
  const item = row(moved);
  byId("events").prepend(item);
  freshen(item);
  while (byId("events").children.length > ROWS_MAX) byId("events").lastElementChild.remove();
  count(moved.number);
}

function count(number) {
  const dropped = number - byId("events").children.length;
  byId("dropped").textContent = `${number} seen, ${dropped} dropped from view`;
}

function row(moved) {
  const cell = (textContent, className = "") => el("td", { textContent, className });
  const tag = el("span", { className: `tag ${HUES[moved.topic] ?? ""}`, textContent: moved.topic });
  return el("tr", { dataset: { type: moved.type, subject: moved.subject } },
    cell(clock(moved.time), "time"),
    el("td", {}, tag),
    cell(moved.offset, "number"),
    cell(moved.type.replace(/^shop\./, ""), "type"),
    cell(moved.subject, "subject mono"),
    cell(moved.data === "" || moved.data === "null" ? "(identifiers only)" : moved.data, "data mono"));
}

function clock(time) {
  const at = new Date(time ?? NaN);
  return Number.isNaN(at.valueOf()) ? "" : at.toLocaleTimeString("en", { hour12: false });
}
