// The system's Chromium with a profile of its own, for one visit.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

// Long, since machines are busy.
const SOON_MS = 30_000;
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** Prints `ok` if the visit ends well. */
export async function inChromium(visit) {
  const profile = await mkdtemp(join(tmpdir(), "mente-page-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.MENTE_TEST_CHROMIUM ?? "/usr/bin/chromium",
    args: FLAGS,
    viewport: { width: 1280, height: 1180 },
    reducedMotion: "no-preference",
  });
  context.setDefaultTimeout(SOON_MS);
  try {
    await visit(await context.newPage());
    console.log("ok");
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}
