// The worker that computes, made of the page's own script.

export class Segmenter {
  // parts: {facts, module, weights} as the worker wants them; script: the modules of the arithmetic.
  constructor(parts, script) {
    this.parts = parts;
    this.source = `${script}\nMODULES.work.serve(self);`;
    this.worker = null;
    this.busy = false;
  }

  // -> what the worker answers to {rgba, height, width}; told(done, total) on the way. Where it is stopped: nothing.
  segment({ rgba, height, width }, told) {
    this.busy = true;
    this.worker ??= this.started();
    return new Promise((resolve, reject) => {
      const fail = (message) => {
        this.end();
        reject(new Error(message));
      };
      this.worker.onerror = (event) => fail(event.message);
      this.worker.onmessage = ({ data }) => {
        if (data.total) told(data.done, data.total);
        else if (data.error) fail(data.error);
        else {
          this.busy = false;
          resolve(data);
        }
      };
      this.worker.postMessage({ rgba, height, width });
    });
  }

  started() {
    const address = URL.createObjectURL(new Blob([this.source], { type: "text/javascript" }));
    const worker = new Worker(address);
    worker.postMessage(this.parts);
    return worker;
  }

  // Ends what is being computed, at once: a tile that has begun does not listen.
  stop() {
    if (this.busy) this.end();
  }

  end() {
    this.worker.terminate();
    this.worker = null;
    this.busy = false;
  }
}
