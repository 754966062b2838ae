"""Generated U-Nets, exported to ONNX, in ONNX Runtime and in ONNX's own reference. More of them than the tests run:

python tests/onnx_cases.py [--count 100]
"""

import argparse

from generated_unets import unet

import minunet as mn
from minunet.export import onnx

LIMIT = 1e-5  # of the largest |logit|
RUNTIMES = ("ONNX Runtime", "reference")


def run(proto, runtime, image):
    """Logits of a raw or prepared batch."""
    if runtime == "ONNX Runtime":
        from onnxruntime import InferenceSession

        session = InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(proto)
    return session.run([onnx.LOGITS], {onnx.IMAGE: image})[0]


def error(found, expected):
    """Largest difference, of the largest |logit|; infinite for another shape or a NaN."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    off = float(abs(found - expected).max() / abs(expected).max())
    return off if off == off else float("inf")


def errors(seed, **limits):
    """{runtime: error} of one network; every third has a fixed size."""
    model, x = unet(seed, **limits)
    with mn.no_grad():
        expected = model(x).data
    proto = onnx.network(model, x.shape[2:] if seed % 3 == 0 else None)
    return {runtime: error(run(proto, runtime, x), expected) for runtime in RUNTIMES}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    worst = dict.fromkeys(RUNTIMES, 0.0)
    for seed in range(parser.parse_args().count):
        found = errors(seed)
        worst = {runtime: max(worst[runtime], found[runtime]) for runtime in RUNTIMES}
        if max(found.values()) > LIMIT:
            print(f"seed {seed}: {found}")
    print("; ".join(f"{runtime}: at most {value:.1e}" for runtime, value in worst.items()))
    raise SystemExit(max(worst.values()) > LIMIT)


if __name__ == "__main__":
    main()
