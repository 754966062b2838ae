"""Data: from files to batches. Imports NumPy alone; image files need Pillow when they are read."""

from minunet.data.augment import Batch, Sampler, batch
from minunet.data.augmentations import Augmentation
from minunet.data.borders import border_classes
from minunet.data.coding import Coding, class_map
from minunet.data.dataset import Dataset, default_preprocessing, from_arrays, load_folder
from minunet.data.decide import TARGETS, decide_coding
from minunet.data.deform import elastic_deform
from minunet.data.errors import DataError, Fault
from minunet.data.faults import Faults, Reading, read_pairs
from minunet.data.images import (
    IMAGE_SUFFIXES,
    is_picture,
    read_image,
    read_mask,
    read_mask_stack,
    read_stack,
    write_image,
)
from minunet.data.names import page_names
from minunet.data.pairs import Pair, find_images, pair
from minunet.data.pixel_weights import PixelWeights
from minunet.data.preprocessing import Preprocessing
from minunet.data.separate import separate_touching
from minunet.data.synthetic import cells
from minunet.data.weight_map import weight_map

__all__ = [
    "IMAGE_SUFFIXES",
    "TARGETS",
    "Augmentation",
    "Batch",
    "Coding",
    "DataError",
    "Dataset",
    "Fault",
    "Faults",
    "Pair",
    "PixelWeights",
    "Preprocessing",
    "Reading",
    "Sampler",
    "batch",
    "border_classes",
    "cells",
    "class_map",
    "decide_coding",
    "default_preprocessing",
    "elastic_deform",
    "find_images",
    "from_arrays",
    "is_picture",
    "load_folder",
    "page_names",
    "pair",
    "read_image",
    "read_mask",
    "read_mask_stack",
    "read_pairs",
    "read_stack",
    "separate_touching",
    "weight_map",
    "write_image",
]
