// Bilinear resize: a thread has some channels of a pixel of the result, and mixes rows first, then columns.
#include "prelude.cuh"
#include "loops.cuh"

// Coordinates are rounded after each operation, as on the CPU: left to itself, the compiler would join products and
// sums, and other neighbours would be chosen where a coordinate is nearly a whole number.
__device__ __forceinline__ float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double rounded_product(double a, double b) { return __dmul_rn(a, b); }

// What an output position of an axis looks at: two input positions, and the weight of the high one.
struct Mix {
    index low, high;
    real t;
};

// scale: size_in / size_out, and half a pixel of shift; with align_corners (size_in - 1) / (size_out - 1), and none.
__device__ __forceinline__ Mix axis_weights(index p, index size_in, real scale, real shift) {
    const real coordinate = rounded_product(real(p) + shift, scale) - shift;
    const real position = coordinate > 0 ? coordinate : real(0);
    const index low = min(index(position), size_in - 1);
    return {low, min(low + 1, size_in - 1), position - real(low)};
}

// The first output position that reads input position `at` or one behind it: a guess, put right.
__device__ __forceinline__ index first_reader(index at, index size_in, index size_out, real scale, real shift) {
    const real guess = (real(at) - 1 + shift) / scale - shift;  // infinite or no number where scale is 0
    index p = guess >= real(size_out) ? size_out : guess > 0 ? index(guess) : 0;
    while (p > 0 && axis_weights(p - 1, size_in, scale, shift).high >= at) p--;
    while (p < size_out && axis_weights(p, size_in, scale, shift).high < at) p++;
    return p;
}

// How much of input position `at` an output position takes.
__device__ __forceinline__ real weight_of(const Mix& mix, index at) {
    return (mix.low == at ? 1 - mix.t : real(0)) + (mix.high == at ? mix.t : real(0));
}

// (1 - t) a + t b.
__device__ __forceinline__ Pack mixed(real t, const Pack& a, const Pack& b) {
    Pack value;
#pragma unroll
    for (int k = 0; k < PACK; k++) value.at[k] = (1 - t) * a.at[k] + t * b.at[k];
    return value;
}

// sum += weight value.
__device__ __forceinline__ void add(Pack& sum, real weight, const Pack& value) {
#pragma unroll
    for (int k = 0; k < PACK; k++) sum.at[k] += weight * value.at[k];
}

// x (N, C, rows, columns) -> y (N, C, height, width).
extern "C" __global__ void __launch_bounds__(THREADS) forward(
    const real* x, index x_image, index x_row, index x_pixel, real* y, index y_image, index y_row, index y_pixel,
    index rows, index columns, real row_scale, real column_scale, real shift, index height, index width, index pixels,
    int channels) {
    const int c = first_channel(), count = channels_of_thread(channels);
    for (index p = first_pixel(); p < pixels; p += pixels_of_grid()) {
        const Pixel at = pixel(p, height, width);
        const Mix v = axis_weights(at.h, rows, row_scale, shift);
        const Mix u = axis_weights(at.w, columns, column_scale, shift);
        const real* top = x + place({at.n, v.low, 0}, x_image, x_row, x_pixel) + c;
        const real* bottom = x + place({at.n, v.high, 0}, x_image, x_row, x_pixel) + c;
        const index left = u.low * x_pixel, right = u.high * x_pixel;
        const Pack mixed_left = mixed(v.t, load(top + left, count), load(bottom + left, count));
        const Pack mixed_right = mixed(v.t, load(top + right, count), load(bottom + right, count));
        store(y + place(at, y_image, y_row, y_pixel) + c, mixed(u.t, mixed_left, mixed_right), count);
    }
}

// grad (N, C, rows, columns) -> gx (N, C, height, width): every source pixel collects from the output pixels that
// looked at it.
extern "C" __global__ void __launch_bounds__(THREADS) adjoint(
    const real* grad, index grad_image, index grad_row, index grad_pixel, real* gx, index gx_image, index gx_row,
    index gx_pixel, index rows, index columns, real row_scale, real column_scale, real shift, index height,
    index width, index pixels, int channels) {
    const int c = first_channel(), count = channels_of_thread(channels);
    for (index i = first_pixel(); i < pixels; i += pixels_of_grid()) {
        const Pixel at = pixel(i, height, width);
        const index first_row = first_reader(at.h, height, rows, row_scale, shift);
        Pack sum = {};
        for (index q = first_reader(at.w, width, columns, column_scale, shift); q < columns; q++) {
            const Mix u = axis_weights(q, width, column_scale, shift);
            if (u.low > at.w) break;
            Pack column = {};
            for (index p = first_row; p < rows; p++) {
                const Mix v = axis_weights(p, height, row_scale, shift);
                if (v.low > at.h) break;
                const index source = place({at.n, p, q}, grad_image, grad_row, grad_pixel) + c;
                add(column, weight_of(v, at.h), load(grad + source, count));
            }
            add(sum, weight_of(u, at.w), column);
        }
        store(gx + place(at, gx_image, gx_row, gx_pixel) + c, sum, count);
    }
}
