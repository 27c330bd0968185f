// The customer's orders, the newest first, each with how far it has come.

import { byId, el, freshen, money } from "./dom.js";

const ORDERS_MAX = 50;
const orders = new Map();
let webhookUp = true;

export function begin(all) {
  orders.clear();
  byId("orders").replaceChildren();
  for (const order of all) orders.set(order.id, { order });
  for (const { order } of orders.values()) byId("orders").append(show(order));
  byId("orders-empty").hidden = orders.size > 0;
}

/** What was read of the stream stays while the rest is shown anew. */
function past(id) {
  const before = orders.get(id)?.item?.querySelector(".past");
  return before ?? el("p", { className: "past mono" });
}

export function change(order) {
  if (order.placed === null) return;
  const before = orders.get(order.id)?.item;
  const item = show(order);
  if (before) before.replaceWith(item);
  else byId("orders").prepend(item);
  freshen(item);
  while (byId("orders").children.length > ORDERS_MAX) {
    const last = byId("orders").lastElementChild;
    orders.delete(last.dataset.order);
    last.remove();
  }
  byId("orders-empty").hidden = true;
}

export function webhookIs(up) {
  webhookUp = up;
  for (const { order, item } of orders.values()) item.replaceWith(show(order));
}

function show(order) {
  const waits = order.shipped && !order.notified && (!webhookUp || order.refused > 0);
  const tries = order.refused === 1 ? "1 try" : `${order.refused} tries`;
  const notified = order.notified ? "notified" : waits ? `waiting, ${tries}` : "notified";
  const step = (done, words) => el("li", { textContent: words, dataset: { done } });
  const yes = (is) => (is ? "yes" : "no");
  const state = order.notified ? "notified" : waits ? "waiting" : order.shipped ? "shipped" : "placed";
  const item = el("li", { dataset: { order: order.id, state } },
    el("p", { className: "order-head" },
      el("span", { className: "mono", textContent: order.id }),
      el("span", { className: "price", textContent: money(order.total) })),
    el("p", {
      className: "order-lines",
      textContent: order.lines.map((line) => `${line.quantity} \u00d7 ${line.name}`).join(", "),
    }),
    el("ol", { className: "steps", ariaLabel: `State: ${state}` },
      step("yes", "placed"),
      step(yes(order.shipped), order.shipped ? "shipped" : "being packed"),
      step(waits ? "waiting" : yes(order.notified), notified)),
    past(order.id));
  orders.set(order.id, { order, item });
  return item;
}
