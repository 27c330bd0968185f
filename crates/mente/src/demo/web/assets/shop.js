// The page: one stream from the front, handed to whoever shows it. The stream begins with the
// whole state, so a page that was cut off or reloaded knows as much as one that stayed.

import { byId, send } from "./dom.js";
import * as events from "./events.js";
import * as orders from "./orders.js";
import * as past from "./past.js";
import * as picture from "./picture.js";
import * as recall from "./recall.js";
import * as sale from "./sale.js";

const WORDS = {
  catalogue: {
    on: ["running", "Stop the catalogue", "Prices change by themselves every few seconds."],
    off: ["stopped", "Start the catalogue", "No changes come, but the stock has its own copy: it sells on."],
  },
  webhook: {
    on: ["webhook up", "Take the webhook down", "It hears of every shipment and tells the customer."],
    off: ["webhook down", "Bring the webhook up", "Mente tries again until it answers; nothing is lost."],
  },
};

let switches = { catalogue: true, webhook: true };

function showSwitches(now) {
  switches = now;
  for (const [name, words] of Object.entries(WORDS)) {
    const state = now[name] ? "on" : "off";
    const [chip, button, note] = words[state];
    byId(`${name}-state`).textContent = chip;
    byId(`${name}-state`).dataset.state = state;
    byId(`${name}-switch`).textContent = button;
    byId(`${name}-note`).textContent = note;
    picture.turn(name, now[name]);
  }
  orders.webhookIs(now.webhook);
}

for (const name of Object.keys(WORDS)) {
  byId(`${name}-switch`).addEventListener("click", async () => {
    try {
      await send("PUT", `/switches/${name}`, { on: !switches[name] });
    } catch (error) {
      byId(`${name}-note`).textContent = `That did not work: ${error.message}`;
    }
  });
}

function link(state, words) {
  byId("link").dataset.state = state;
  byId("link").textContent = words;
}

const live = new EventSource("/live");
const on = (name, take) => live.addEventListener(name, (message) => take(JSON.parse(message.data)));

on("state", (state) => {
  link("on", "live");
  byId("server").textContent = state.server;
  byId("tail").textContent = `mente tail orders --from earliest --server ${state.server}`;
  sale.begin(state.products);
  orders.begin(state.orders);
  recall.begin(state.orders);
  past.begin(state.orders);
  events.begin(state.recent, state.number);
  showSwitches(state.switches);
});
on("moved", (change) => {
  events.add(change.moved);
  picture.moved(change.moved.topic);
  if (change.product) sale.change(change.product);
  if (change.order) {
    orders.change(change.order);
    recall.change(change.order);
    past.change(change.order);
  }
});
on("order", orders.change);
on("passed", ({ arrow, ok }) => picture.pass(arrow, ok));
on("switches", showSwitches);
// The browser opens the stream again by itself.
live.addEventListener("error", () => link("off", "connection lost, trying again"));
