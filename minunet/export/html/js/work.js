// The worker: the first message holds {facts, module, weights} (the latter two as base64), each further one an image
// {rgba, height, width}. Answers: {done, total} while it computes, then what `answer` gives, or {error}.

import { bytesOf, load } from "./network.js";
import { colored, overlay, shown } from "./overlay.js";
import { Picture, isGrey } from "./picture.js";
import { segment } from "./segment.js";

export function serve(scope) {
  let network = null;
  scope.onmessage = async ({ data }) => {
    try {
      if (!network) {
        network = load(data.facts, bytesOf(data.module), bytesOf(data.weights));
        await network; // what is wrong with it is told at once
        return;
      }
      const found = answer(await network, data, (done, total) => scope.postMessage({ done, total }));
      scope.postMessage(found, ["classes", "seen", "mask", "overlay"].map((name) => found[name].buffer));
    } catch (error) {
      scope.postMessage({ error: inWords(error) });
    }
  };
}

function inWords(error) {
  if (error instanceof RangeError) return "There is not enough memory for this image: give a smaller one.";
  if (error instanceof WebAssembly.CompileError)
    return "This browser cannot run the network: it has no WebAssembly with vectors (SIMD).";
  return `The image could not be computed: ${error}`;
}

// The class of every pixel, and as rgba what is drawn: the image as it is shown, the mask, the overlay.
function answer(network, { rgba, height, width }, told) {
  const started = performance.now();
  const classes = segment(network, new Picture(rgba, height, width, network.facts), told);
  const milliseconds = performance.now() - started;
  const grey = isGrey(rgba);
  const seen = shown(rgba, grey);
  return { classes, milliseconds, grey, seen, mask: colored(classes), overlay: overlay(seen, classes, height, width) };
}
