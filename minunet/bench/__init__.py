"""Benchmarks: `minunet bench`, and the roofline that `mn.explain` measures against.

limits.py      what this machine can do: multiply-adds and bytes a second, measured by our own loops (loops.py)
cost.py        what a kernel call has to do: operations, bytes, and from these the least time it can take
works.py       the networks that are compared, with their inputs
contenders.py  minunet and its peers on one network: PyTorch, ONNX Runtime, OpenVINO
               (the network again: torch_networks.py, onnx_graph.py)
networks.py    contenders checked, then timed in turns; cost per pixel over sizes
memory.py      peak memory, each in a process of its own
kernels.py     all variants of one kernel beside each other, a user's own file (user_kernel.py), peers (layers.py)
report.py      tables for the terminal and in Markdown, results as JSON
roofline.py    the plot
command.py     `minunet bench` itself: what to run, and where the results go
"""
