// Checks report pages with axe-core in headless Chromium: light and dark, phone and desktop; tries the tables' sorting.
//
//   npm install axe-core playwright-core                      in a folder outside the repository, and from there:
//   node .../.ci/axe.mjs PAGE.html ... [--shots FOLDER]       ends with 1 where something was found
//
// CHROMIUM names the browser, `chromium` unless given. Not part of CI: it needs a browser and npm's packages.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.cwd(), "from-here"));
const { chromium } = require("playwright-core");
const axe = require("axe-core");

const given = process.argv.slice(2);
const at = given.indexOf("--shots");
const shots = at < 0 ? null : given.splice(at, 2)[1];
const executablePath = execFileSync("which", [process.env.CHROMIUM ?? "chromium"], { encoding: "utf8" }).trim();
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
let found = 0;

function report(where, text) {
  found += 1;
  console.log(`${where}: ${text}`);
}

async function sorting(page, where) {
  const heads = await page.locator("table.sortable th button").all();
  for (const head of heads.slice(0, 12)) {
    if (!(await head.isVisible())) continue;
    const column = head.locator("xpath=..");
    for (const expected of ["ascending", "descending", null]) {
      await head.click();
      if ((await column.getAttribute("aria-sort")) !== expected) report(where, `a table is not sorted ${expected}`);
    }
  }
  if ((await page.locator("table.sortable").count()) && !heads.length) report(where, "the script did not run");
}

for (const file of given) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 390, 1280]) {
      const where = `${file} ${colorScheme} ${width}`;
      const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 } });
      const page = await context.newPage();
      page.on("pageerror", error => report(where, error.message));
      page.on("console", message => message.type() === "error" && report(where, message.text()));
      page.on("request", request => /^(data|file):/.test(request.url()) || report(where, `asks for ${request.url()}`));
      await page.goto(pathToFileURL(path.resolve(file)).href);
      if (shots) {
        const name = `${path.basename(path.dirname(path.resolve(file)))}-${colorScheme}-${width}.png`;
        await page.screenshot({ path: path.join(shots, name), fullPage: true });
      }
      await page.evaluate(() => document.querySelectorAll("details").forEach(each => (each.open = true)));
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wider > 0) report(where, `the page is ${wider} pixels wider than the screen`);
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      for (const { id, impact, help, nodes } of violations) {
        report(where, `${impact}: ${id}: ${help}\n    ${nodes.slice(0, 5).map(node => node.html.slice(0, 160)).join("\n    ")}`);
      }
      await sorting(page, where);
      await context.close();
    }
  }
}
await browser.close();
console.log(found ? `${found} found` : `nothing found on ${given.length} pages`);
process.exitCode = found ? 1 : 0;
