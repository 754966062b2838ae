// The arithmetic of an exported page in Node: node page_node.mjs JOB.json OUT.json
// Facts, module and weights are taken from the page, the code from its modules.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const from = (name) => import(join(job.modules, `${name}.js`));
const { bytesOf, load } = await from("network");
const { Picture, isGrey } = await from("picture");
const { segment } = await from("segment");
const { tiles } = await from("tiles");
const { overlay, shown } = await from("overlay");
const { greyPng } = await from("png");

const base64 = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

async function opened(path) {
  const html = readFileSync(path, "utf8");
  const [facts, module, weights] = ["facts", "module", "weights"].map((id) => html.match(`id="${id}">([^<]*)<`)[1]);
  return load(JSON.parse(facts), bytesOf(module), bytesOf(weights));
}

// Logits of the whole picture, channel by channel, put together from its tiles.
function logitsOf(network, picture) {
  const [height, width] = picture.size;
  const out = new Float32Array(network.facts.outputs * height * width).fill(NaN);
  for (const window of tiles(network.facts, picture.size)) {
    const found = network.logitsIn(picture, window);
    for (let c = 0; c < network.facts.outputs; c++)
      for (let y = 0; y < window.height; y++)
        for (let x = 0; x < window.width; x++)
          out[(c * height + window.top + y) * width + window.left + x] =
            found.logits[c * found.pixels + found.offset + y * found.width + x];
  }
  return out;
}

const answers = [];
for (const { page, images } of job.pages) {
  const network = await opened(page);
  for (const { rgba, height, width, drawn } of images) {
    const bytes = new Uint8ClampedArray(Buffer.from(rgba, "base64"));
    const picture = new Picture(bytes, height, width, network.facts);
    const told = [];
    const classes = segment(network, picture, (...progress) => told.push(progress));
    const answer = { logits: base64(logitsOf(network, picture)), classes: base64(classes), told };
    if (drawn) {
      answer.overlay = base64(overlay(shown(bytes, isGrey(bytes)), classes, height, width));
      answer.png = base64(await greyPng(classes, height, width));
    }
    answers.push(answer);
  }
}
writeFileSync(process.argv[3], JSON.stringify(answers));
