"""PyTorch's checkpoints without PyTorch: `load_torch`.

unpickle.py    a pickle read by a small machine that executes nothing
views.py       what the few names in a state_dict's pickle stand for: storages, and tensors as views of them
zip_file.py    the format since PyTorch 1.6
stream_file.py the format before
state.py       the state_dict in a file, wherever it lies in it
layouts.py     the names of well-known networks, and minunet's names for the same layers
load.py        all of it together: a file in, a UNet out
"""
