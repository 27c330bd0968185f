// A visitor's day on the shop's page, in the system's Chromium:
//   node shop_page.mjs URL FOLDER PID
// with the process of the shop's server;
// prints `ok` at the end; pictures of the page go to FOLDER.

import assert from "node:assert/strict";
import { join } from "node:path";
import { inChromium } from "./browser.mjs";
import { aSliderShowsAnOrdersPast } from "./shop_past.mjs";

const [url, folder, pid] = process.argv.slice(2);

await inChromium(visit);

async function visit(page) {
  const faults = watch(page);
  await page.goto(url);
  await page.locator("#link", { hasText: "live" }).waitFor();

  const order = await anOrderIsShippedAndTold(page);
  await theStockSellsOnWithoutTheCatalogue(page);
  await aWebhookThatWasDownHearsLater(page);
  await ordersOutliveThePage(page);
  await aSliderShowsAnOrdersPast(page, { order, folder, faults, pid: Number(pid) });
  await aPhoneShowsItAll(page);
  await strangersAreRefused();

  assert.deepEqual(faults, []);
}

/** Collects what must not happen: errors on the console, and requests to anywhere else. */
function watch(page) {
  const faults = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`page: ${error}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) faults.push(`request: ${request.url()}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400) faults.push(`${response.status()} ${response.url()}`);
  });
  return faults;
}

/** With the keyboard alone: what a mouse does, the keyboard must do too. */
async function anOrderIsShippedAndTold(page) {
  await page.evaluate(() => (window.untouched = true));
  await page.locator('[data-product="mug"] button').focus();
  await page.keyboard.press("Enter");
  await page.locator('[data-product="tea"] button').focus();
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: /^One more: Stoneware mug/ }).focus();
  await page.keyboard.press("Enter");
  // The row was made anew, the focus is where it was.
  await page.keyboard.press("Enter");
  await page.locator("#cart", { hasText: "3" }).waitFor();

  const order = await place(page);
  await event(page, "shop.OrderPlaced", order).waitFor();
  await event(page, "shop.OrderShipped", order).waitFor();
  await state(page, order, "notified").waitFor();
  await event(page, "shop.CustomerNotified", order).waitFor();
  assert.match(await page.locator(`[data-order="${order}"]`).innerText(), /3 \u00d7 Stoneware mug/);
  assert.equal(await page.evaluate(() => window.untouched), true, "without a reload");
  // The order's stream, folded, and the SQL view say the same as the events.
  const past = page.locator(`[data-order="${order}"] .past[data-status="notified"]`);
  await past.filter({ hasText: "OrderPlaced \u2192 OrderShipped \u2192 CustomerNotified" }).waitFor();
  await past.filter({ hasText: "; row: notified" }).waitFor();
  await page.locator('[data-sold="Stoneware mug"] td:nth-child(2)', { hasText: /^3$/ }).waitFor();
  await page.locator('#sales-lag', { hasText: /up to date with the log|behind the log/ }).waitFor();
  await page.locator('[data-sold^="Green tea"] td:nth-child(2)', { hasText: /^1$/ }).waitFor();
  return order;
}

async function theStockSellsOnWithoutTheCatalogue(page) {
  await page.getByRole("button", { name: "Stop the catalogue" }).click();
  await page.locator("#catalogue-state", { hasText: "stopped" }).waitFor();
  // A change that was under way may still come; then none does.
  await page.waitForTimeout(500);
  const changes = page.locator('tr[data-type="shop.ProductChanged"]');
  const before = await changes.count();
  await page.locator('[data-product="kettle"] button').click();
  const order = await place(page);
  await state(page, order, "notified").waitFor();
  await page.waitForTimeout(3_000);
  assert.equal(await changes.count(), before, "a stopped catalogue tells nothing");

  await page.getByRole("button", { name: "Start the catalogue" }).click();
  await page.waitForFunction(
    (least) => document.querySelectorAll('tr[data-type="shop.ProductChanged"]').length > least, before);
}

async function aWebhookThatWasDownHearsLater(page) {
  await page.getByRole("button", { name: "Take the webhook down" }).click();
  await page.locator("#webhook-state", { hasText: "down" }).waitFor();
  await page.locator('[data-product="beans"] button').click();
  await page.locator('[data-product="paper"] button').click();
  const order = await place(page);
  await state(page, order, "waiting").waitFor();
  await page.locator(`[data-order="${order}"]`, { hasText: /waiting, [1-9]/ }).waitFor();
  // A level line has no height, which counts as hidden.
  await page.locator('[data-arrow="shipments-webhook"].lit.failed').waitFor({ state: "attached" });
  await page.screenshot({ path: join(folder, "shop-page-waiting.png"), fullPage: true });

  await page.getByRole("button", { name: "Bring the webhook up" }).click();
  await state(page, order, "notified").waitFor();
}

async function ordersOutliveThePage(page) {
  const orders = () => page.locator("[data-order]").evaluateAll((all) =>
    all.map(({ dataset }) => `${dataset.order} ${dataset.state}`));
  const before = await orders();
  assert.equal(before.length, 3);
  await page.reload();
  await page.locator("[data-order]").nth(2).waitFor();
  assert.deepEqual(await orders(), before);
  await page.locator('.past[data-status="notified"]').nth(2).waitFor();
  await page.locator("[data-sold]").nth(4).waitFor();
  const seen = await page.locator("#dropped").innerText();
  assert.match(seen, /^\d+ seen, \d+ dropped from view$/);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: join(folder, "shop-page-dark.png"), fullPage: true });
  await page.emulateMedia({ colorScheme: "light" });
  await page.screenshot({ path: join(folder, "shop-page.png"), fullPage: true });
}

async function aPhoneShowsItAll(page) {
  await page.setViewportSize({ width: 360, height: 740 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 360, `the page is ${wide} wide on a phone`);
  const list = await page.locator(".list").evaluate((list) => list.scrollWidth - list.clientWidth);
  assert.equal(list, 0, "the events fit a phone");
  await page.screenshot({ path: join(folder, "shop-page-phone.png"), fullPage: true });
}

/** The page has no login, so it must not act for the page of another site. */
async function strangersAreRefused() {
  const turn = (headers) => fetch(new URL("/switches/catalogue", url), {
    method: "PUT", headers, body: '{"on":true}',
  });
  const json = { "content-type": "application/json" };
  assert.equal((await turn({ ...json, origin: "http://shop.example" })).status, 403);
  assert.equal((await turn({})).status, 415);
  assert.equal((await turn(json)).status, 204);
}

/** Places the order in the cart; answers its name. */
async function place(page) {
  const known = new Set(await page.locator("[data-order]").evaluateAll((all) => all.map((o) => o.dataset.order)));
  await page.getByRole("button", { name: "Place order" }).click();
  const words = page.locator("#placed", { hasText: "on its way" });
  await words.waitFor();
  // The answer to the command waited for the row.
  assert.match(await words.innerText(), /its SQL row says placed/);
  const newest = page.locator("#orders > li").first();
  for (;;) {
    const order = await newest.getAttribute("data-order").catch(() => null);
    if (order && !known.has(order)) return order;
    await page.waitForTimeout(50);
  }
}

function state(page, order, name) {
  return page.locator(`[data-order="${order}"][data-state="${name}"]`);
}

function event(page, type, subject) {
  return page.locator(`tr[data-type="${type}"][data-subject="${subject}"]`);
}
