// What Mente remembers, asked when something moved: an order's state is folded from its stream, its row is
// what an append waited for, and what was sold is a SQL view of all orders.

import { byId, el, freshen, money } from "./dom.js";
import { pass } from "./picture.js";

const RECALLED_AT_FIRST = 10;
/** A view follows its source: it is asked soon, and once more for what was under way. */
const ASKED_AFTER_MS = [150, 1_000];
let shown = "";
let timers = [];

export function begin(orders) {
  for (const { id } of orders.slice(0, RECALLED_AT_FIRST)) order(id);
  sales(false);
}

export function change({ id }) {
  order(id);
  for (const timer of timers) clearTimeout(timer);
  timers = ASKED_AFTER_MS.map((wait) => setTimeout(sales, wait, true));
}

/** Fills the line that `orders.js` keeps for the stream. */
async function order(id) {
  const past = await ask(`/orders/${encodeURIComponent(id)}`);
  const item = document.querySelector(`[data-order="${CSS.escape(id)}"]`);
  const line = item?.querySelector(".past");
  if (!past || !line) return;
  const types = past.events.map((type) => type.replace(/^shop\./, ""));
  line.dataset.status = past.status ?? "";
  line.dataset.row = past.row ?? "";
  line.textContent = `stream: ${types.join(" \u2192 ")} = ${past.status}; row: ${past.row ?? "none"}`;
}

async function sales(light) {
  const sold = await ask("/sales");
  if (!sold) return;
  byId("sales-lag").textContent = behind(sold);
  const { rows } = sold;
  const text = JSON.stringify(rows);
  if (text === shown) return;
  shown = text;
  byId("sales").replaceChildren(...rows.map(row));
  byId("sales-empty").hidden = rows.length > 0;
  if (light) {
    pass("stream-sales", true);
    freshen(byId("sales"));
  }
}

/** The price of a read model: how far it is behind what was written. */
function behind({ lag, seconds }) {
  if (!lag) return "up to date with the log";
  return `${lag} events and ${(seconds ?? 0).toFixed(1)} s behind the log`;
}

function row([name, pieces, revenue]) {
  const cell = (textContent, className) => el("td", { textContent, className });
  return el("tr", { dataset: { sold: name } },
    cell(name, ""), cell(pieces, "number"), cell(money(revenue), "number"));
}

/** What the front says, or nothing: the next event asks again. */
async function ask(path) {
  try {
    const response = await fetch(path);
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}
