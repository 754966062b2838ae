// Sums over the pixels of pictures, and over lines of numbers.
#include "prelude.cuh"
#include "sums.cuh"

// out (blocks, C): the sum of each block's pixels.
extern "C" __global__ void __launch_bounds__(THREADS) channel_sums(
    const real* x, index x_image, index x_row, index x_pixel, index height, index width, index pixels, int channels,
    index pixels_of_block, real* out) {
    __shared__ real shared[PACK * THREADS];
    const int c = first_channel(), count = channels_of_thread(channels);
    const index end = end_of_block(pixels_of_block, pixels);
    Pack sums = {};
#pragma unroll 4
    for (index p = first_of_thread(pixels_of_block); p < end; p += blockDim.y)
        add(sums, load(x + place(pixel(p, height, width), x_image, x_row, x_pixel) + c, count));
    add_threads(sums, shared, count, out + index(blockIdx.x) * channels + c);
}

// out = the sum of `count` numbers, by one block.
extern "C" __global__ void __launch_bounds__(THREADS) total(const double* line, index count, double* out) {
    __shared__ double shared[THREADS];
    double sum = 0;
    for (index k = threadIdx.x; k < count; k += THREADS) sum += line[k];
    add_line_of_threads(sum, shared, out);
}
