// The shop's server is killed under a visitor who looks at an order's past:
//   node shop_killed.mjs URL PID
// kills process PID, prints `killed` once the page says so, and expects somebody to start the server
// again then; prints `ok` at the end.

import assert from "node:assert/strict";
import { inChromium } from "./browser.mjs";

const [url, pid] = process.argv.slice(2);

await inChromium(async (page) => {
  await page.goto(url);
  await page.locator('[data-product="mug"] button').click();
  await page.getByRole("button", { name: "Place order" }).click();
  await page.locator('#past[data-last="2"]').waitFor();
  const slider = page.locator("#past-at");
  await slider.focus();
  await page.keyboard.press("ArrowLeft");
  await page.locator('#past[data-at="1"]').waitFor();

  process.kill(Number(pid), "SIGKILL");
  await page.keyboard.press("Home");
  await page.locator("#past-link", { hasText: "server away, trying again" }).waitFor();
  await page.getByRole("button", { name: /^What if/ }).click();
  await page.locator("#past-otherwise", { hasText: "No answer: cannot reach" }).waitFor();
  assert.equal(await page.locator("#past").getAttribute("data-at"), "1", "what was read stays");
  console.log("killed");

  // Nobody touches the page: it goes on by itself, to where the slider was moved meanwhile.
  await page.locator('#past[data-at="0"]:not(.stale)').waitFor();
  await page.locator("#past-link").waitFor({ state: "hidden" });
  assert.equal(await page.locator("#past-type").innerText(), "OrderPlaced");
  await slider.focus();
  await page.keyboard.press("End");
  await page.locator('#past[data-at="2"]:not(.stale)').waitFor();
});
