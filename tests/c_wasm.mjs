// Runs an exported network, compiled to WebAssembly: node c_wasm.mjs JOB.json OUT.json
// Around everything that it is given lie bytes that must not change; the arena ends where the memory does.
import { readFileSync, writeFileSync } from "node:fs";

const PAGE = 65536, GAP = 64, FILL = 0xa5;
const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { instance } = await WebAssembly.instantiate(readFileSync(job.module), {});
const code = instance.exports;
const given = [Buffer.from(job.in, "base64"), Buffer.from(job.image, "base64")];

let free = Math.ceil((code.__heap_base.value + GAP) / 16) * 16;
const [inAt, imageAt, outAt, classesAt, end] = [...given.map((bytes) => bytes.length), job.out, job.classes].reduce(
  (places, size) => [...places, Math.ceil((places.at(-1) + size + GAP) / 16) * 16], [free]);
const missing = end + job.arena - code.memory.buffer.byteLength;
if (missing > 0) code.memory.grow(Math.ceil(missing / PAGE));
const bytes = new Uint8Array(code.memory.buffer);
const arenaAt = bytes.length - job.arena;
bytes.fill(FILL, code.__heap_base.value);
bytes.set(given[0], inAt);
bytes.set(given[1], imageAt);

function call(name, ...places) {
  bytes.fill(0xff, arenaAt); // NaN
  return code[name](...places, arenaAt);
}

const before = bytes.slice();
call("unet_predict", inAt, outAt);
call("unet_segment", imageAt, classesAt);
const wrong = call("unet_selftest");
const stray = bytes.findIndex((byte, at) => byte !== before[at] && at >= code.__heap_base.value && at < arenaAt
  && !(at >= outAt && at < outAt + job.out) && !(at >= classesAt && at < classesAt + job.classes));
const base64 = (at, size) => Buffer.from(bytes.slice(at, at + size)).toString("base64");
writeFileSync(process.argv[3], JSON.stringify(
  { out: base64(outAt, job.out), classes: base64(classesAt, job.classes), wrong, stray }));
