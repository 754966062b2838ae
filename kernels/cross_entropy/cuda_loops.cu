// Softmax cross entropy: a thread has a pixel, and goes over its classes once for each step.
#include "prelude.cuh"
#include "loops.cuh"

// The largest logit; NaN where there is one, so that the loss shows it.
__device__ __forceinline__ real largest(const real* z, int classes) {
    real top = z[0];
    for (int k = 1; k < classes; k++) top = z[k] > top || z[k] != z[k] ? z[k] : top;
    return top;
}

// The sum of exp(z - top).
__device__ __forceinline__ real exponentials(const real* z, int classes, real top) {
    real total = 0;
#pragma unroll 1  // unrolled, it takes more registers than there are
    for (int k = 0; k < classes; k++) total += exp(z[k] - top);
    return total;
}

// NaN, which comes of a target that is none of the classes: to refuse it, one would have to wait for the device.
__device__ __forceinline__ real no_class() { return sqrt(real(-1)); }

extern "C" __global__ void __launch_bounds__(THREADS) forward(
    const real* logits, index z_image, index z_row, index z_pixel, index height, index width, index pixels,
    int classes, const long long* target, real* loss) {
    for (index p = index(blockIdx.x) * blockDim.x + threadIdx.x; p < pixels; p += index(gridDim.x) * blockDim.x) {
        const real* z = logits + place(pixel(p, height, width), z_image, z_row, z_pixel);
        const index y = target[p];
        real value = 0;
        if (y >= classes) {
            value = no_class();
        } else if (y >= 0) {
            const real top = largest(z, classes);
            value = log(exponentials(z, classes, top)) + (top - z[y]);
        }
        loss[p] = value;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) backward(
    const real* grad, const real* logits, index z_image, index z_row, index z_pixel, real* gz, index gz_image,
    index gz_row, index gz_pixel, index height, index width, index pixels, int classes, const long long* target) {
    for (index p = index(blockIdx.x) * blockDim.x + threadIdx.x; p < pixels; p += index(gridDim.x) * blockDim.x) {
        const Pixel at = pixel(p, height, width);
        const real* z = logits + place(at, z_image, z_row, z_pixel);
        real* out = gz + place(at, gz_image, gz_row, gz_pixel);
        const index y = target[p];
        if (y < 0 || y >= classes) {
            for (int k = 0; k < classes; k++) out[k] = y < 0 ? real(0) : no_class();
            continue;
        }
        const real g = grad[p], top = largest(z, classes), total = exponentials(z, classes, top);
#pragma unroll 1  // unrolled, it spills
        for (int k = 0; k < classes; k++) out[k] = g * (exp(z[k] - top) / total - (y == k ? real(1) : real(0)));
    }
}
