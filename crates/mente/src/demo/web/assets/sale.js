// The catalogue as the stock's copy has it, and the cart. The browser names products and
// quantities only: the price of an order is the stock's to say.

import { byId, el, freshen, money, send } from "./dom.js";

const products = new Map();
const rows = new Map();
const cart = new Map();
const QUANTITY_MAX = 99;

export function begin(all) {
  for (const product of all) put(product);
  showCart();
}

export function change(product) {
  const row = put(product);
  if (product.before !== null && product.before !== product.price) freshen(row.item);
  if (cart.has(product.id)) showCart();
}

/** Rows stay the same elements, so that the keyboard's place is not lost. */
function put(product) {
  products.set(product.id, product);
  const row = rows.get(product.id) ?? newRow(product.id);
  row.name.textContent = product.name;
  row.price.textContent = money(product.price);
  row.add.setAttribute("aria-label", `Add ${product.name}`);
  const step = product.before === null ? 0 : product.price - product.before;
  row.was.textContent = step ? `${step > 0 ? "+" : "\u2212"}${money(Math.abs(step))}` : "";
  row.was.dataset.to = step > 0 ? "up" : "down";
  return row;
}

function newRow(id) {
  const row = {
    name: el("span", { className: "name" }),
    was: el("span", { className: "was", title: "Last change" }),
    price: el("span", { className: "price" }),
    add: el("button", { type: "button", className: "small", textContent: "Add", on: { click: () => inCart(id, 1) } }),
  };
  row.item = el("li", { dataset: { product: id } }, row.name, row.was, row.price, row.add);
  rows.set(id, row);
  byId("products").append(row.item);
  return row;
}

function inCart(id, step) {
  const quantity = Math.min((cart.get(id) ?? 0) + step, QUANTITY_MAX);
  if (quantity > 0) cart.set(id, quantity);
  else cart.delete(id);
  showCart();
}

function showCart() {
  const focus = document.activeElement?.dataset?.key;
  const items = [...cart].map(([id, quantity]) => {
    const { name, price } = products.get(id);
    const step = (by, sign, words) =>
      el("button", {
        type: "button", className: "small", textContent: sign, ariaLabel: `${words} ${name}`,
        dataset: { key: `${id}${by}` }, on: { click: () => inCart(id, by) },
      });
    return el("li", {},
      el("span", { className: "name", textContent: name }),
      step(-1, "\u2212", "One less:"),
      el("span", { className: "count", textContent: quantity }),
      step(1, "+", "One more:"),
      el("span", { className: "price", textContent: money(price * quantity) }));
  });
  byId("cart").replaceChildren(...items);
  const kept = items.flatMap((item) => [...item.querySelectorAll("button")]);
  kept.find((button) => button.dataset.key === focus)?.focus();
  byId("cart-empty").hidden = cart.size > 0;
  const total = [...cart].reduce((sum, [id, quantity]) => sum + products.get(id).price * quantity, 0);
  byId("total").textContent = money(total);
  byId("place").disabled = cart.size === 0;
}

byId("place").addEventListener("click", async () => {
  const lines = [...cart].map(([product, quantity]) => ({ product, quantity }));
  byId("place").disabled = true;
  try {
    const { order, row } = await send("POST", "/orders", { lines });
    cart.clear();
    const read = row ? `, its SQL row says ${row}` : "";
    byId("placed").textContent = `${order}: on disk and on its way${read}.`;
  } catch (error) {
    byId("placed").textContent = `Not placed: ${error.message}`;
  }
  showCart();
});
