// The picture: an arrow lights up and a dot runs along it when something passes.

import { byId } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const LIT_MS = 900;
const RUN_MS = 550;
const DOTS_MAX = 40;
/** Which arrows an event on a topic has passed; what receivers take is told apart. */
const WAYS = {
  orders: ["storefront-orders"],
  shipments: ["shipping-shipments"],
  notices: ["webhook-notices"],
  catalogue: ["catalogue-topic", "topic-stock"],
};
const timers = new Map();
const still = matchMedia("(prefers-reduced-motion: reduce)");

export function moved(topic) {
  for (const [turn, arrow] of (WAYS[topic] ?? []).entries()) {
    setTimeout(() => pass(arrow, true), turn * RUN_MS);
  }
}

export function pass(name, ok) {
  const arrow = document.querySelector(`[data-arrow="${CSS.escape(name)}"]`);
  if (!arrow) return;
  arrow.classList.add("lit");
  arrow.classList.toggle("failed", !ok);
  clearTimeout(timers.get(name));
  timers.set(name, setTimeout(() => arrow.classList.remove("lit"), LIT_MS));
  if (!still.matches) run(arrow, ok);
}

/** A program that a visitor stopped or started. */
export function turn(name, on) {
  const box = byId(`box-${name}`);
  box.classList.toggle("off", !on);
  const words = box.querySelector(".small");
  words.textContent = on ? words.dataset.up : words.dataset.down;
}

function run(arrow, ok) {
  const at = (end) => `translate(${arrow.getAttribute(`x${end}`)}px, ${arrow.getAttribute(`y${end}`)}px)`;
  const dots = byId("dots");
  if (dots.children.length >= DOTS_MAX) return;
  const dot = document.createElementNS(SVG, "circle");
  dot.setAttribute("class", ok ? "dot" : "dot failed");
  dots.append(dot);
  const way = [{ transform: at(1) }, { transform: at(2) }];
  dot.animate(way, { duration: RUN_MS, easing: "ease-in-out" }).finished.finally(() => dot.remove());
}
