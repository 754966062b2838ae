// max_pool2d: a thread has some channels of a window; all is read and written once, so nothing is added up.
#include "prelude.cuh"
#include "loops.cuh"

// Whether `value` takes the place of `best`: a NaN takes that of a number, and nothing that of a NaN.
__device__ __forceinline__ bool wins(real value, real best) { return !(value <= best) && best == best; }

// Where row i, column j of the window of a pooled pixel lies.
__device__ __forceinline__ index window(
    const Pixel& at, int i, int j, int k, index image_stride, index row_stride, index pixel_stride) {
    return place({at.n, at.h * k + i, at.w * k + j}, image_stride, row_stride, pixel_stride);
}

// The largest number of each channel's window so far, and its place.
struct Best {
    Pack value;
    Bytes where;
};

__device__ __forceinline__ Best first_of_window(const real* x, int count) { return {load(x, count), {}}; }

__device__ __forceinline__ void compare(Best& best, const real* x, int count, int where) {
    const Pack other = load(x, count);
#pragma unroll
    for (int c = 0; c < PACK; c++) {
        const bool better = wins(other.at[c], best.value.at[c]);
        best.value.at[c] = better ? other.at[c] : best.value.at[c];
        if (better) best.where.at[c] = static_cast<unsigned char>(where);
    }
}

// The usual window of 2 x 2: its four numbers are on their way at the same time.
extern "C" __global__ void __launch_bounds__(THREADS) forward_2(
    const real* x, index x_image, index x_row, index x_pixel, real* y, index y_image, index y_row, index y_pixel,
    unsigned char* places, index places_image, index places_row, index places_pixel, index height, index width,
    index pixels, int channels) {
    const int c = first_channel(), count = channels_of_thread(channels);
    for (index p = first_pixel(); p < pixels; p += pixels_of_grid()) {
        const Pixel at = pixel(p, height, width);
        const real* source = x + window(at, 0, 0, 2, x_image, x_row, x_pixel) + c;
        Best best = first_of_window(source, count);
        compare(best, source + x_pixel, count, 1);
        compare(best, source + x_row, count, 2);
        compare(best, source + x_row + x_pixel, count, 3);
        store(y + place(at, y_image, y_row, y_pixel) + c, best.value, count);
        store(places + place(at, places_image, places_row, places_pixel) + c, best.where, count);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) forward(
    const real* x, index x_image, index x_row, index x_pixel, real* y, index y_image, index y_row, index y_pixel,
    unsigned char* places, index places_image, index places_row, index places_pixel, index height, index width,
    index pixels, int channels, int k) {
    const int c = first_channel(), count = channels_of_thread(channels);
    for (index p = first_pixel(); p < pixels; p += pixels_of_grid()) {
        const Pixel at = pixel(p, height, width);
        Best best = first_of_window(x + window(at, 0, 0, k, x_image, x_row, x_pixel) + c, count);
        for (int where = 1; where < k * k; where++)
            compare(best, x + window(at, where / k, where % k, k, x_image, x_row, x_pixel) + c, count, where);
        store(y + place(at, y_image, y_row, y_pixel) + c, best.value, count);
        store(places + place(at, places_image, places_row, places_pixel) + c, best.where, count);
    }
}

// Each number of gx is written once: `wide` x `high` windows cover it, of which those beyond height x width are cut off
// by its borders and belong to no maximum.
extern "C" __global__ void __launch_bounds__(THREADS) backward(
    const real* grad, index grad_image, index grad_row, index grad_pixel, const unsigned char* places,
    index places_image, index places_row, index places_pixel, real* gx, index gx_image, index gx_row, index gx_pixel,
    index height, index width, index high, index wide, index rows, index columns, index windows, int channels, int k) {
    const int c = first_channel(), count = channels_of_thread(channels);
    for (index p = first_pixel(); p < windows; p += pixels_of_grid()) {
        const Pixel at = pixel(p, high, wide);
        Pack g = {};
        Bytes here = {};
        if (at.h < height && at.w < width) {
            g = load(grad + place(at, grad_image, grad_row, grad_pixel) + c, count);
            here = load(places + place(at, places_image, places_row, places_pixel) + c, count);
        }
        for (int i = 0; i < k && at.h * k + i < rows; i++) {
            for (int j = 0; j < k && at.w * k + j < columns; j++) {
                Pack value;
#pragma unroll
                for (int q = 0; q < PACK; q++) value.at[q] = here.at[q] == i * k + j ? g.at[q] : real(0);
                store(gx + window(at, i, j, k, gx_image, gx_row, gx_pixel) + c, value, count);
            }
        }
    }
}
