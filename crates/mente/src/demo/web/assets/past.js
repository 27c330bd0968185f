// An order's past: a slider over the revisions of its stream. Every place of it is asked of Mente:
// the state as it was, what the event changed, and which event set each field.

import { byId, el, send } from "./dom.js";

const ORDERS_MAX = 50;
const ROWS_MAX = 100;
const VALUE_CHARS_MAX = 400;
const RETRY_MS = 1_000;
const select = byId("past-order");
const slider = byId("past-at");
/** Where the slider stands; at the end it has no number, and goes along when the stream grows. */
let at = null;
/** Until a visitor chooses, the newest order is shown. */
let chosen = false;
/** Counts what was asked for: what comes late, for an earlier place, is not shown. */
let turn = 0;
let working = false;
let thinking = false;

export function begin(orders) {
  const before = select.value;
  select.replaceChildren(...orders.slice(0, ORDERS_MAX).map(option));
  if (chosen && orders.some(({ id }) => id === before)) select.value = before;
  else at = null;
  look();
}

export function change(order) {
  if (order.placed === null) return;
  const before = select.value;
  if (![...select.options].some(({ value }) => value === order.id)) {
    select.prepend(option(order));
    if (select.options.length > ORDERS_MAX) select.lastElementChild.remove();
    if (!chosen) select.value = order.id;
  }
  if (select.value !== before) at = null;
  if (select.value !== before || order.id === before) look();
}

select.addEventListener("change", () => {
  chosen = true;
  at = null;
  look();
});
slider.addEventListener("input", () => {
  chosen = true;
  at = slider.value === slider.max ? null : slider.valueAsNumber;
  look();
});
byId("past-drop").addEventListener("click", thinkAway);

function option({ id }) {
  return el("option", { value: id, textContent: id });
}

function look() {
  const any = select.options.length > 0;
  byId("past-empty").hidden = any;
  byId("past").hidden = !any;
  turn += 1;
  if (any) work();
}

/** One question at a time, however fast the slider moves: the next one is about where it is then. */
async function work() {
  if (working) return;
  working = true;
  for (let done = 0; done !== turn && select.value;) {
    const mine = turn;
    let past = null;
    try {
      past = await send("GET", `${path()}/past${at === null ? "" : `?at=${at}`}`);
      away("");
    } catch (error) {
      away(error.message, error.status);
      // What Mente refuses it refuses again; what it did not answer it may answer soon.
      if (!(error.status < 500)) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
    }
    done = mine;
    if (past && mine === turn) show(past);
  }
  working = false;
}

function path() {
  return `/orders/${encodeURIComponent(select.value)}`;
}

/** What was read stays in sight, and is shown to be no answer to the last question. */
function away(why, status) {
  const words = status < 500 ? why : "server away, trying again";
  byId("past-link").textContent = why && words;
  byId("past-link").title = why;
  byId("past-link").hidden = !why;
  byId("past").classList.toggle("stale", why !== "");
}

function show(past) {
  const { step } = past;
  const kind = short(step.type);
  Object.assign(byId("past").dataset, { stream: select.value, at: past.at, last: past.last });
  Object.assign(slider, { min: past.first, max: past.last, value: past.at });
  // With one place there is nothing to move.
  slider.disabled = past.first === past.last;
  slider.setAttribute("aria-valuetext", `revision ${past.at} of ${past.last}: ${kind}`);
  byId("past-place").textContent = `${past.at} of ${past.last}`;
  byId("past-type").textContent = kind;
  byId("past-time").dateTime = step.time;
  byId("past-time").textContent = when(step.time);
  byId("past-before").textContent = past.first > 0 ? `Truncated: readable from revision ${past.first} on.` : "";
  byId("past-fields").replaceChildren(...fields(past));
  byId("past-changes").replaceChildren(...changes(step.changes, step.changed));
  byId("past-otherwise").replaceChildren();
}

/** A row for each field of the state, with the event that set it. */
function fields({ state, fields, at }) {
  const by = new Map(fields.map((field) => [JSON.stringify(field.path), field]));
  const all = leaves(state);
  const rows = all.slice(0, ROWS_MAX).map(([path, value]) => {
    const { revision = "", type = "" } = by.get(JSON.stringify(path)) ?? {};
    return el("tr", { className: revision === at ? "now" : "", dataset: { field: dotted(path), by: revision } },
      el("td", { className: "mono", textContent: dotted(path) }),
      el("td", { className: "mono", textContent: shown(value) }),
      el("td", { className: "by", textContent: `${revision} ${short(type)}` }));
  });
  if (all.length > ROWS_MAX) {
    rows.push(el("tr", {}, el("td", { colSpan: 3, textContent: `and ${all.length - ROWS_MAX} more` })));
  }
  return rows;
}

/** Plain values and lists with their paths, as Mente tells fields. */
function leaves(value, path = []) {
  const names = value !== null && typeof value === "object" && !Array.isArray(value) ? Object.keys(value) : [];
  if (names.length === 0) return [[path, value]];
  return names.flatMap((name) => leaves(value[name], [...path, name]));
}

function changes(some, number) {
  const items = some.slice(0, ROWS_MAX).map((change) => {
    const value = (name) => el("span", {
      className: name,
      textContent: name in change ? shown(change[name]) : name === "before" ? "new" : "gone",
      dataset: { there: name in change },
    });
    return el("li", { dataset: { field: dotted(change.path) } },
      el("span", { className: "field", textContent: dotted(change.path) }),
      " ", value("before"), " \u2192 ", value("after"));
  });
  if (number > items.length) items.push(el("li", { textContent: `and ${number - items.length} more` }));
  return items;
}

async function thinkAway() {
  if (thinking) return;
  thinking = true;
  const [mine, revision] = [turn, Number(byId("past").dataset.at)];
  const tell = (...parts) => mine === turn && byId("past-otherwise").replaceChildren(...parts);
  try {
    const told = await send("POST", `${path()}/whatif`, { drop: [revision] });
    const title = told.changes.length > 0
      ? `Without revision ${revision} the order would differ now:`
      : `Without revision ${revision} the order would be the same now: later events said all that it said.`;
    tell(el("p", { textContent: title }),
      el("ul", { className: "changes mono" }, ...changes(told.changes, told.changes.length)),
      el("p", { className: "quiet", textContent: `Nothing was written or sent: the stream is still at revision ${told.revision}.` }));
  } catch (error) {
    tell(el("p", { textContent: `No answer: ${error.message}. Nothing was written; ask again.` }));
  }
  thinking = false;
}

const dotted = (path) => path.join(".") || "(all of it)";
const short = (type) => type.replace(/^shop\./, "");

/** JSON with spaces, where lines may break. */
function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 1).replace(/\n */g, " ");
  return text.length > VALUE_CHARS_MAX ? `${text.slice(0, VALUE_CHARS_MAX)}...` : text;
}

function when(time) {
  const date = new Date(time);
  const form = { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" };
  return Number.isNaN(date.valueOf()) ? time : date.toLocaleString("en", form);
}
