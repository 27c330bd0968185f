// Makes elements. Text goes in as text: what an event holds never becomes markup.

/** An element with properties and children; `dataset` and `on` hold what their names say. */
export function el(name, { dataset, on, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  Object.assign(element.dataset, dataset);
  for (const [event, listener] of Object.entries(on ?? {})) element.addEventListener(event, listener);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

const euros = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });

/** Cents for people. */
export const money = (cents) => euros.format(cents / 100);

/** Shows for a moment that something is new. */
export function freshen(element) {
  element.classList.remove("fresh");
  void element.offsetWidth; // Without a layout in between the animation does not start again.
  element.classList.add("fresh");
}

/** Sends JSON; answers what came back, or throws with the words of the refusal and its status. */
export async function send(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  const answer = text ? JSON.parse(text) : {};
  if (!response.ok) {
    throw Object.assign(new Error(answer.error ?? `HTTP ${response.status}`), { status: response.status });
  }
  return answer;
}
