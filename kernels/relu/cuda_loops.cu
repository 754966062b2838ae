// relu: in one pass over memory, in whatever order the axes lie.
#include "prelude.cuh"
#include "sums.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) forward(const real* x, index size, real* y) {
    for (index k = first_number(); k < size; k += numbers_of_grid()) {
        const int count = numbers_of_pack(k, size);
        Pack value = load(x + k, count);
#pragma unroll
        for (int i = 0; i < PACK; i++) value.at[i] = value.at[i] <= 0 ? real(0) : value.at[i];
        store(y + k, value, count);
    }
}

// y: numbers, or bytes that are 0 where the gradient does not pass.
template <typename Value>
__device__ __forceinline__ Pack passed(const real* grad, const Value* y, int count) {
    const auto value = load(y, count);
    Pack g = load(grad, count);
#pragma unroll
    for (int i = 0; i < PACK; i++) g.at[i] = value.at[i] <= 0 ? real(0) : g.at[i];
    return g;
}

template <typename Value>
__device__ __forceinline__ void backward_of_line(const real* grad, const Value* y, index size, real* gx) {
    for (index k = first_number(); k < size; k += numbers_of_grid()) {
        const int count = numbers_of_pack(k, size);
        store(gx + k, passed(grad + k, y + k, count), count);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) backward(
    const real* grad, const real* y, index size, real* gx) {
    backward_of_line(grad, y, size, gx);
}

extern "C" __global__ void __launch_bounds__(THREADS) backward_of_passes(
    const real* grad, const unsigned char* passes, index size, real* gx) {
    backward_of_line(grad, passes, size, gx);
}

// The gradient of the block's pixels, and partial (blocks, C) = its sum over them.
template <typename Value>
__device__ __forceinline__ void backward_of_pixels(
    const real* grad, index grad_image, index grad_row, index grad_pixel, const Value* y, index y_image, index y_row,
    index y_pixel, real* gx, index gx_image, index gx_row, index gx_pixel, index height, index width, index pixels,
    int channels, index pixels_of_block, real* partial, real* shared) {
    const int c = first_channel(), count = channels_of_thread(channels);
    const index end = end_of_block(pixels_of_block, pixels);
    Pack sums = {};
    for (index p = first_of_thread(pixels_of_block); p < end; p += blockDim.y) {
        const Pixel at = pixel(p, height, width);
        const index upstream = place(at, grad_image, grad_row, grad_pixel) + c;
        const index source = place(at, y_image, y_row, y_pixel) + c;
        const Pack g = passed(grad + upstream, y + source, count);
        store(gx + place(at, gx_image, gx_row, gx_pixel) + c, g, count);
        add(sums, g);
    }
    add_threads(sums, shared, count, partial + index(blockIdx.x) * channels + c);
}

extern "C" __global__ void __launch_bounds__(THREADS) backward_sums(
    const real* grad, index grad_image, index grad_row, index grad_pixel, const real* y, index y_image, index y_row,
    index y_pixel, real* gx, index gx_image, index gx_row, index gx_pixel, index height, index width, index pixels,
    int channels, index pixels_of_block, real* partial) {
    __shared__ real shared[PACK * THREADS];
    backward_of_pixels(
        grad, grad_image, grad_row, grad_pixel, y, y_image, y_row, y_pixel, gx, gx_image, gx_row, gx_pixel, height,
        width, pixels, channels, pixels_of_block, partial, shared);
}

extern "C" __global__ void __launch_bounds__(THREADS) backward_sums_of_passes(
    const real* grad, index grad_image, index grad_row, index grad_pixel, const unsigned char* passes, index y_image,
    index y_row, index y_pixel, real* gx, index gx_image, index gx_row, index gx_pixel, index height, index width,
    index pixels, int channels, index pixels_of_block, real* partial) {
    __shared__ real shared[PACK * THREADS];
    backward_of_pixels(
        grad, grad_image, grad_row, grad_pixel, passes, y_image, y_row, y_pixel, gx, gx_image, gx_row, gx_pixel,
        height, width, pixels, channels, pixels_of_block, partial, shared);
}
