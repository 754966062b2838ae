// Every operation of the network: forward, and backward as vector-Jacobian products. minunet/functional.py derives them.
//
// forward(node, inputs, parameters, state) -> output.   inputs: tensors; parameters: {weight, bias, ...} or {}.
// backward(node, g, inputs, parameters, kept, output) -> {inputs: [...], parameters: {...}}, gradients of both.
// state.keep(x) stores what backward and formulas need; state.held is what an earlier run kept, if its choices hold.

import { relu, dropout, max_pool2d } from "./choosing.js";
import { conv2d, conv_transpose2d } from "./convolution.js";
import { softmax, sigmoid, cross_entropy, bce_with_logits, dice, add } from "./losses.js";
import { batch_norm } from "./normalization.js";
import { center_crop, center_pad, resize, concat } from "./resampling.js";

export const OPERATIONS = {
  conv2d, conv_transpose2d, relu, dropout, max_pool2d, batch_norm, center_crop, center_pad, resize, concat,
  softmax, sigmoid, cross_entropy, bce_with_logits, dice, add,
};
