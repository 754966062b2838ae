// batch_norm: each step reads its arrays once, as they lie; sums over pixels are taken in two stages.
//
// With scale = weight inv_std, and everything a channel,
//
//     y = (x - mean) scale + bias
//     grad_weight = inv_std sum g (x - mean)          backward_input = scale (g - mean_grad - (x - mean) slope)
//
// where slope = inv_std mean_grad_xhat.  `floor` is 0 with a rectifier, else NaN: no number is "<=" that.
#include "prelude.cuh"
#include "sums.cuh"

// y, by one instruction that rounds once: in forward and backward the same bits, so that the rectifier lets a gradient
// pass exactly where it let the number pass.
__device__ __forceinline__ real shifted(real centred, real scale, real bias) { return fma(centred, scale, bias); }

// ------------------------------------------------------------------------------------------------------ statistics

// How many numbers, their mean, and the sum of the squares around it: of a thread's channels.
struct Moments {
    real n;
    Pack mean, squares;
};
constexpr int ROOM = (1 + 2 * PACK) * THREADS;  // what the moments of all threads take of shared memory

// Joins the n numbers of `other` to m (Chan, Golub and LeVeque, 1979), with step = the difference of the means:
// mean += step n / (m + n),  squares += other's squares + step^2 m n / (m + n).
__device__ __forceinline__ void join(Moments& all, const Moments& other) {
    if (other.n == 0) return;
    const real share = other.n / (all.n + other.n);
#pragma unroll
    for (int k = 0; k < PACK; k++) {
        const real step = other.mean.at[k] - all.mean.at[k];
        all.mean.at[k] += step * share;
        all.squares.at[k] += other.squares.at[k] + step * (step * all.n * share);
    }
    all.n += other.n;
}

__device__ __forceinline__ void put(const Moments& moments, real* shared, int thread) {
    shared[thread] = moments.n;
#pragma unroll
    for (int k = 0; k < PACK; k++) {
        shared[(1 + k) * THREADS + thread] = moments.mean.at[k];
        shared[(1 + PACK + k) * THREADS + thread] = moments.squares.at[k];
    }
}

__device__ __forceinline__ Moments get(const real* shared, int thread) {
    Moments moments = {shared[thread], {}, {}};
#pragma unroll
    for (int k = 0; k < PACK; k++) {
        moments.mean.at[k] = shared[(1 + k) * THREADS + thread];
        moments.squares.at[k] = shared[(1 + PACK + k) * THREADS + thread];
    }
    return moments;
}

// Joins the moments of the block's threads that have the same channels: the first row of threads gets all.
__device__ __forceinline__ void join_threads(Moments& moments, real* shared) {
    const int thread = thread_of_block(), across = blockDim.x;
    for (int rows = blockDim.y; rows > 1; rows = (rows + 1) / 2) {
        const int half = (rows + 1) / 2;  // row r takes row r + half
        put(moments, shared, thread);
        __syncthreads();
        if (int(threadIdx.y) + half < rows) join(moments, get(shared, thread + half * across));
        __syncthreads();
    }
}

// Numbers are taken relative to those of the first pixel, which come as close to the mean as their spread: so that
// little is rounded where all of them are far from zero.
__device__ __forceinline__ Pack difference(const Pack& a, const Pack& b) {
    Pack value;
#pragma unroll
    for (int k = 0; k < PACK; k++) value.at[k] = a.at[k] - b.at[k];
    return value;
}

// means, squares (blocks, C): of each block's pixels, relative to the first pixel of all.
extern "C" __global__ void __launch_bounds__(THREADS) statistics(
    const real* x, index x_image, index x_row, index x_pixel, index height, index width, index pixels, int channels,
    index pixels_of_block, real* means, real* squares) {
    __shared__ real shared[ROOM];
    const int c = first_channel(), count = channels_of_thread(channels);
    const index end = end_of_block(pixels_of_block, pixels);
    const Pack first = load(x + c, count);
    Moments moments = {};
    for (index p = first_of_thread(pixels_of_block); p < end; p += blockDim.y) {
        const Pack value = load(x + place(pixel(p, height, width), x_image, x_row, x_pixel) + c, count);
        join(moments, {1, difference(value, first), {}});
    }
    join_threads(moments, shared);
    if (threadIdx.y == 0) {
        store(means + index(blockIdx.x) * channels + c, moments.mean, count);
        store(squares + index(blockIdx.x) * channels + c, moments.squares, count);
    }
}

// Mean and variance of all pixels from the mean of each block and the sum of squares around it.  x: the first pixel.
extern "C" __global__ void __launch_bounds__(THREADS) combined(
    const real* x, const real* means, const real* squares, int blocks, index pixels, int channels,
    index pixels_of_block, real* mean, real* variance) {
    __shared__ real shared[ROOM];
    const int c = first_channel(), count = channels_of_thread(channels);
    Moments moments = {};
    for (int block = threadIdx.y; block < blocks; block += blockDim.y) {
        const index n = max(index(0), min(pixels - block * pixels_of_block, pixels_of_block));
        const index at = index(block) * channels + c;
        join(moments, {real(n), load(means + at, count), load(squares + at, count)});
    }
    join_threads(moments, shared);
    if (threadIdx.y == 0) {
#pragma unroll
        for (int k = 0; k < PACK; k++) moments.squares.at[k] /= moments.n;
        add(moments.mean, load(x + c, count));
        store(mean + c, moments.mean, count);
        store(variance + c, moments.squares, count);
    }
}

// ---------------------------------------------------------------------------------------------- forward and backward

// What belongs to the channels of a thread.
struct Steps {
    Pack mean, scale, bias;
};

__device__ __forceinline__ Pack product(const Pack& a, const Pack& b) {
    Pack value;
#pragma unroll
    for (int k = 0; k < PACK; k++) value.at[k] = a.at[k] * b.at[k];
    return value;
}

__device__ __forceinline__ Steps steps_of_channels(
    const real* mean, const real* inv_std, const real* weight, const real* bias, int c, int count) {
    return {load(mean + c, count), product(load(weight + c, count), load(inv_std + c, count)), load(bias + c, count)};
}

extern "C" __global__ void __launch_bounds__(THREADS) normalize(
    const real* x, index x_image, index x_row, index x_pixel, real* y, index y_image, index y_row, index y_pixel,
    index height, index width, index pixels, int channels, const real* mean, const real* inv_std, const real* weight,
    const real* bias, real floor) {
    const int c = first_channel(), count = channels_of_thread(channels);
    const Steps steps = steps_of_channels(mean, inv_std, weight, bias, c, count);
    for (index p = first_pixel(); p < pixels; p += pixels_of_grid()) {
        const Pixel at = pixel(p, height, width);
        Pack value = load(x + place(at, x_image, x_row, x_pixel) + c, count);
#pragma unroll
        for (int k = 0; k < PACK; k++) {
            const real shift = shifted(value.at[k] - steps.mean.at[k], steps.scale.at[k], steps.bias.at[k]);
            value.at[k] = shift <= floor ? floor : shift;
        }
        store(y + place(at, y_image, y_row, y_pixel) + c, value, count);
    }
}

// products, sums (blocks, C): the sums of g xhat and of g over each block's pixels.
extern "C" __global__ void __launch_bounds__(THREADS) backward_parameters(
    const real* grad, index grad_image, index grad_row, index grad_pixel, const real* x, index x_image, index x_row,
    index x_pixel, index height, index width, index pixels, int channels, index pixels_of_block, const real* mean,
    const real* inv_std, const real* weight, const real* bias, real floor, real* products, real* sums) {
    __shared__ real shared[PACK * THREADS];
    const int c = first_channel(), count = channels_of_thread(channels);
    const Steps steps = steps_of_channels(mean, inv_std, weight, bias, c, count);
    const index end = end_of_block(pixels_of_block, pixels);
    Pack product_sums = {}, plain_sums = {};
    for (index p = first_of_thread(pixels_of_block); p < end; p += blockDim.y) {
        const Pixel at = pixel(p, height, width);
        const Pack upstream = load(grad + place(at, grad_image, grad_row, grad_pixel) + c, count);
        const Pack value = load(x + place(at, x_image, x_row, x_pixel) + c, count);
#pragma unroll
        for (int k = 0; k < PACK; k++) {
            const real centred = value.at[k] - steps.mean.at[k];
            const bool stopped = shifted(centred, steps.scale.at[k], steps.bias.at[k]) <= floor;
            const real g = stopped ? real(0) : upstream.at[k];
            product_sums.at[k] += g * centred;
            plain_sums.at[k] += g;
        }
    }
    const index out = index(blockIdx.x) * channels + c;
    add_threads(product(product_sums, load(inv_std + c, count)), shared, count, products + out);
    __syncthreads();
    add_threads(plain_sums, shared, count, sums + out);
}

extern "C" __global__ void __launch_bounds__(THREADS) backward_input(
    const real* grad, index grad_image, index grad_row, index grad_pixel, const real* x, index x_image, index x_row,
    index x_pixel, real* gx, index gx_image, index gx_row, index gx_pixel, index height, index width, index pixels,
    int channels, const real* mean, const real* inv_std, const real* weight, const real* bias, real floor,
    const real* mean_grad, const real* mean_grad_xhat) {
    const int c = first_channel(), count = channels_of_thread(channels);
    const Steps steps = steps_of_channels(mean, inv_std, weight, bias, c, count);
    const Pack mean_grads = load(mean_grad + c, count);
    const Pack slopes = product(load(inv_std + c, count), load(mean_grad_xhat + c, count));
    for (index p = first_pixel(); p < pixels; p += pixels_of_grid()) {
        const Pixel at = pixel(p, height, width);
        const Pack upstream = load(grad + place(at, grad_image, grad_row, grad_pixel) + c, count);
        Pack value = load(x + place(at, x_image, x_row, x_pixel) + c, count);
#pragma unroll
        for (int k = 0; k < PACK; k++) {
            const real centred = value.at[k] - steps.mean.at[k];
            const bool stopped = shifted(centred, steps.scale.at[k], steps.bias.at[k]) <= floor;
            const real g = stopped ? real(0) : upstream.at[k];
            value.at[k] = steps.scale.at[k] * (g - mean_grads.at[k] - centred * slopes.at[k]);
        }
        store(gx + place(at, gx_image, gx_row, gx_pixel) + c, value, count);
    }
}
