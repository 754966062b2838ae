// The page: an image is chosen, computed, drawn and saved.

import { colorOf } from "./overlay.js";
import { greyPng } from "./png.js";
import { decode } from "./decode.js";
import { Segmenter } from "./worker.js";

const byId = (id) => document.getElementById(id);
const SMALL = 512; // px a side, below which pixels are shown as squares
const PAUSE = 1000; // ms between two lines about the progress, which screen readers read out

class App {
  constructor(facts, segmenter) {
    this.facts = facts;
    this.segmenter = segmenter;
    this.turn = 0; // counts images: what an earlier one comes to is not shown
    this.wire();
  }

  wire() {
    byId("file").addEventListener("change", ({ target }) => this.take(target.files));
    byId("cancel").addEventListener("click", () => this.cancel());
    byId("save-mask").addEventListener("click", () => this.saveMask());
    byId("save-overlay").addEventListener("click", () => this.saveOverlay());
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.cancel());
    const over = (event, inside) => {
      event.preventDefault();
      document.body.classList.toggle("over", inside);
    };
    document.addEventListener("dragover", (event) => over(event, true));
    document.addEventListener("dragleave", (event) => over(event, event.relatedTarget !== null));
    document.addEventListener("drop", (event) => {
      over(event, false);
      byId("file").value = ""; // what it named is not what is shown
      this.take(event.dataTransfer.files);
    });
  }

  async take(files) {
    if (!files.length) return; // a choice that was called off, or what was dropped is a text
    this.segmenter.stop();
    const turn = ++this.turn;
    this.begin(files);
    try {
      const image = await decode(files[0]);
      if (turn !== this.turn) return;
      const found = await this.segmenter.segment(image, (done, total) => this.tell(done, total));
      if (turn !== this.turn) return;
      this.note([...image.notes, ...this.notes(files.length, found.grey)]);
      this.show(files[0].name, image, found);
    } catch (error) {
      if (turn === this.turn) this.fail(error.message);
    }
  }

  begin([file]) {
    byId("status").textContent = `Reading ${file.name} …`;
    byId("error").hidden = byId("result").hidden = true;
    byId("error").textContent = "";
    byId("working").hidden = false;
    byId("progress").removeAttribute("value");
    this.note([]);
    this.started = performance.now();
    this.spoken = -Infinity;
  }

  notes(count, grey) {
    const found = [];
    if (count > 1) found.push(`Of the ${count} files this is the first: the page takes one at a time.`);
    if (this.facts.channels === 1 && !grey)
      found.push("This is a colour image, and the network is for grey ones: its luminance is used.");
    return found;
  }

  note(texts) {
    byId("notes").replaceChildren(...texts.map((text) => made("li", { textContent: text })));
  }

  tell(done, total) {
    const left = (performance.now() - this.started) / 1000 / done * (total - done);
    const wait = done && left > 1 ? `, about ${Math.ceil(left)} s left` : "";
    byId("progress").max = total;
    byId("progress").value = done;
    if (performance.now() - this.spoken < PAUSE) return;
    byId("status").textContent = `Computing: tile ${Math.min(done + 1, total)} of ${total}${wait}.`;
    this.spoken = performance.now();
  }

  cancel() {
    if (byId("working").hidden) return;
    this.segmenter.stop();
    this.turn++;
    byId("working").hidden = true;
    byId("status").textContent = "Cancelled.";
    byId("file").value = ""; // or the same file could not be chosen again
    byId("file").focus();
  }

  fail(message) {
    this.segmenter.stop();
    byId("working").hidden = true;
    byId("status").textContent = "";
    byId("file").value = "";
    byId("error").textContent = message;
    byId("error").hidden = false;
  }

  show(name, { height, width }, { classes, milliseconds, grey, seen, mask, overlay }) {
    const shares = this.shares(classes);
    this.saved = { name: name.replace(/\.[^.]*$/, ""), classes, height, width };
    draw("image", seen, height, width, `The image ${name}, ${width} x ${height} px.`);
    draw("mask", mask, height, width, `The mask: ${shares.join("; ")}.`);
    draw("overlay", overlay, height, width, "The image, with each class tinted and outlined in its colour.");
    byId("spread").textContent = grey ? "(its greys spread, to be seen)" : "";
    byId("legend").replaceChildren(...shares.map((text, number) => entry(text, colorOf(number))));
    byId("status").textContent = `${name}: ${width} x ${height} px, computed in ${(milliseconds / 1000).toFixed(2)} s.`;
    byId("working").hidden = true;
    byId("result").hidden = false;
  }

  // Every class with its share of the pixels, in words.
  shares(classes) {
    const counts = this.facts.classes.map(() => 0);
    for (const number of classes) counts[number]++;
    const percent = (count) => (100 * count / classes.length).toFixed(1);
    return this.facts.classes.map((name, number) => `${number}: ${name}, ${percent(counts[number])} %`);
  }

  async saveMask() {
    const { name, classes, height, width } = this.saved;
    save(`${name}_mask.png`, new Blob([await greyPng(classes, height, width)], { type: "image/png" }));
  }

  saveOverlay() {
    byId("overlay").toBlob((blob) => save(`${this.saved.name}_overlay.png`, blob));
  }
}

function draw(id, rgba, height, width, description) {
  const canvas = byId(id);
  Object.assign(canvas, { width, height });
  canvas.classList.toggle("small", Math.max(width, height) < SMALL);
  canvas.setAttribute("aria-label", description);
  canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
}

function entry(text, color) {
  const swatch = made("span", { className: "swatch" });
  swatch.style.background = `rgb(${color})`;
  const item = made("li", {});
  item.append(swatch, ` ${text}`);
  return item;
}

function made(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function save(name, blob) {
  const link = made("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // when it has been read
}

export function start() {
  const text = (id) => byId(id).textContent;
  const facts = JSON.parse(text("facts"));
  const parts = { facts, module: text("module"), weights: text("weights") };
  return new App(facts, new Segmenter(parts, text("arithmetic")));
}
