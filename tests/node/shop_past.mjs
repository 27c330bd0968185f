// The slider through an order's past, held against what the shop's server itself answers.

import assert from "node:assert/strict";
import { join } from "node:path";

/** Of an order that was placed, shipped and told; the server is process `pid`. */
export async function aSliderShowsAnOrdersPast(page, { order, folder, faults, pid }) {
  const server = await page.locator("#server").innerText();
  const stream = `${server}/streams/${order}`;
  const written = await json(`${stream}?limit=1000`);
  assert.equal(written.events.length, 3);

  await page.locator("#past-order").selectOption(order);
  await shown(page, order, 2);
  const slider = page.locator("#past-at");
  assert.deepEqual(await ends(slider), ["0", "2"]);
  await slider.focus();
  // With the keyboard, to the beginning and on to the end.
  const places = [["Home", 0], ["ArrowRight", 1], ["ArrowRight", 2], ["ArrowLeft", 1]];
  for (const [key, revision] of places) {
    await page.keyboard.press(key);
    await shown(page, order, revision);
    await theServerSaysTheSame(page, stream, revision);
  }
  await whatIf(page, stream);
  await page.screenshot({ path: join(folder, "shop-page-past.png"), fullPage: true });
  await otherSitesAskNothing(page, order);
  await aSilentServerIsWaitedFor(page, { order, faults, pid });
  assert.deepEqual(await json(`${stream}?limit=1000`), written, "looking back wrote something");
  await aTruncatedStreamBeginsLater(page, order, stream);
  await whatOthersWriteIsText(page, order, stream);
  await page.screenshot({ path: join(folder, "shop-page-strange.png"), fullPage: true });
}

/** State, change, type, time and blame of one revision. */
async function theServerSaysTheSame(page, stream, revision) {
  const { state } = await json(`${stream}/state?at=${revision}`);
  const fields = await page.locator("#past-fields tr").evaluateAll((rows) =>
    rows.map((row) => [row.dataset.field, row.cells[1].textContent, row.dataset.by, row.cells[2].textContent]));
  const blame = await json(`${stream}/blame?at=${revision}`);
  const by = Object.fromEntries(blame.fields.map((field) => [field.path.join("."), field]));
  // An order's state has no fields within fields.
  const expected = Object.entries(state).map(([name, value]) =>
    [name, text(value), String(by[name].revision), `${by[name].revision} ${short(by[name].type)}`]);
  assert.deepEqual(fields.sort(), expected.sort());

  const [step] = (await json(`${stream}/log?before=${revision + 1}&limit=1`)).steps;
  assert.equal(step.revision, revision);
  assert.deepEqual(await told(page, "#past-changes"), changes(step.changes));
  assert.equal(await page.locator("#past-type").innerText(), short(step.type));
  assert.equal(await page.locator("#past-time").getAttribute("datetime"), step.time);
  assert.match(await page.locator("#past-at").getAttribute("aria-valuetext"), new RegExp(`^revision ${revision} of 2`));
}

async function whatIf(page, stream) {
  const button = page.getByRole("button", { name: "What if this event had not happened?" });
  // Shipped, and later notified: without it the order is the same. Without its last event it is not.
  for (const [key, revision, number] of [["Home", 0], ["ArrowRight", 1, 0], ["End", 2, 1]]) {
    await page.locator("#past-at").focus();
    await page.keyboard.press(key);
    await page.locator(`#past[data-at="${revision}"]`).waitFor();
    assert.equal(await page.locator("#past-otherwise").innerText(), "", "of another event");
    await button.focus();
    await page.keyboard.press("Enter");
    // It says so, and the stream is read again below.
    await page.locator("#past-otherwise", { hasText: "Nothing was written or sent: the stream is still at revision 2." }).waitFor();
    const answer = await json(`${stream}/whatif`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ drop: [revision] }),
    });
    assert.deepEqual(await told(page, "#past-otherwise"), changes(answer.changes));
    if (number !== undefined) assert.equal(answer.changes.length, number);
  }
  assert.match(await page.locator("#past-otherwise").innerText(), /notified \u2192 shipped/);
}

/** No login: only the page itself may ask. Names that are no orders lead nowhere. */
async function otherSitesAskNothing(page, order) {
  const { origin } = new URL(page.url());
  const ask = (path, headers = {}, body) =>
    fetch(`${origin}${path}`, { method: body ? "POST" : "GET", headers, body }).then(({ status }) => status);
  const type = { "content-type": "application/json" };
  assert.equal(await ask(`/orders/${order}/past?at=1`), 200);
  assert.equal(await ask(`/orders/${order}/past?at=99999`), 200);
  assert.equal(await ask(`/orders/${order}/past?at=-1`), 400);
  assert.equal(await ask(`/orders/${order}/past`, { origin: "http://shop.example" }), 403);
  assert.equal(await ask(`/orders/${order}%2F..%2Fcart/past`), 404);
  assert.equal(await ask("/orders/order-none/past"), 404);
  assert.equal(await ask(`/orders/${order}/whatif`, {}, '{"drop":[1]}'), 415);
  assert.equal(await ask(`/orders/${order}/whatif`, type, '{"drop":[1],"append":[]}'), 400);
  assert.equal(await ask(`/orders/${order}/whatif`, type, '{"drop":[7]}'), 416);
}

/** The page says so, keeps what it shows, and goes on by itself. */
async function aSilentServerIsWaitedFor(page, { order, faults, pid }) {
  assert.deepEqual(faults, []);
  process.kill(pid, "SIGSTOP");
  try {
    await page.locator("#past-at").focus();
    await page.keyboard.press("Home");
    await page.locator("#past-link", { hasText: "server away, trying again" }).waitFor();
    assert.equal(await page.locator("#past").getAttribute("data-at"), "2");
    await page.locator("#past.stale").waitFor();
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await shown(page, order, 0);
  await page.locator("#past-link").waitFor({ state: "hidden" });
  // Only these questions were not answered, and the page told.
  const others = faults.filter((fault) => !/^502 .*\/past(\?|$)|^console: .*\b502\b/.test(fault));
  assert.deepEqual(others, []);
  assert.ok(faults.length > 0);
  faults.length = 0;
}

async function aTruncatedStreamBeginsLater(page, order, stream) {
  const put = await fetch(`${stream}/metadata`, {
    method: "PUT", headers: { "content-type": "application/json" }, body: '{"truncateBefore":1}',
  });
  assert.ok(put.ok, await put.text());
  assert.equal((await fetch(`${stream}/state?at=0`)).status, 416);
  // The slider stands at 0, which is no more.
  await page.locator("#past-at").focus();
  await page.keyboard.press("ArrowRight");
  await shown(page, order, 1);
  assert.deepEqual(await ends(page.locator("#past-at")), ["1", "2"]);
  await page.locator("#past-before", { hasText: "readable from revision 1 on" }).waitFor();
  await theServerSaysTheSame(page, stream, 1);
}

/** Whoever may append to the stream may write anything; on the page it is words, and not too many. */
async function whatOthersWriteIsText(page, order, stream) {
  const name = "<img src=x onerror=alert(1)>";
  const event = {
    specversion: "1.0", id: "strange", source: "/test", type: "shop.OrderPlaced",
    data: { [name]: { within: "<b>".repeat(400) } },
  };
  const post = await fetch(stream, {
    method: "POST", headers: { "content-type": "application/cloudevents+json" }, body: JSON.stringify(event),
  });
  assert.ok(post.ok, await post.text());
  // The page's end is at 2 until it asks again: the end is then where the stream has got to.
  await page.locator("#past-at").focus();
  await page.keyboard.press("End");
  await shown(page, order, 3);
  assert.deepEqual(await ends(page.locator("#past-at")), ["1", "3"]);
  const field = `[data-field="${name}.within"]`;
  assert.equal(await page.locator(`#past-fields ${field} td`).first().innerText(), `${name}.within`);
  const value = await page.locator(`#past-changes ${field} .after`).innerText();
  assert.match(value, /^(<b>)+<?\.\.\.$/);
  assert.ok(value.length < 500, `${value.length} characters`);
  assert.equal(await page.locator("#past img, #past b").count(), 0);
}

async function shown(page, order, revision) {
  await page.locator(`#past[data-stream="${order}"][data-at="${revision}"]:not(.stale)`).waitFor();
  assert.equal(await page.locator("#past-at").inputValue(), String(revision));
}

function ends(slider) {
  return slider.evaluate(({ min, max }) => [min, max]);
}

/** Changes as the page tells them: field, before, after. */
function told(page, list) {
  return page.locator(`${list} li`).evaluateAll((items) =>
    items.map((item) => [".field", ".before", ".after"].map((part) => item.querySelector(part).textContent)));
}

function changes(all) {
  return all.map((change) => [
    change.path.join("."),
    "before" in change ? text(change.before) : "new",
    "after" in change ? text(change.after) : "gone",
  ]);
}

/** JSON as the page shows it, with spaces. */
function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 1).replace(/\n */g, " ");
}

function short(type) {
  return type.replace(/^shop\./, "");
}

async function json(path, options) {
  const response = await fetch(path, options);
  assert.equal(response.status, 200, path);
  return response.json();
}
