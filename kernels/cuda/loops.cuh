// Loops over lines of numbers and over pictures: what of them a thread has.
//
// A thread takes up to PACK neighbouring numbers at a time: as one vector where they are all there and the address of
// the first is a multiple of their size, else one by one.
//
// Of a picture a thread has neighbouring channels of a pixel: threadIdx.x counts these packs of channels, threadIdx.y
// pixels, and blockIdx.y the blocks that it takes to have all channels.  So neighbouring threads have neighbouring
// numbers, also from one pixel to the next.
#pragma once
#include "prelude.cuh"

constexpr int THREADS = 256;  // of a block, at most

// PACK bytes side by side, aligned so that they move as one.
struct alignas(PACK) Bytes {
    unsigned char at[PACK];
};

template <typename Vector>
__device__ __forceinline__ bool aligned(const void* place) {
    return reinterpret_cast<size_t>(place) % alignof(Vector) == 0;
}

// `count` numbers; what is left of the pack is zero.
__device__ __forceinline__ Pack load(const real* from, int count) {
    if (count == PACK && aligned<Pack>(from)) return load_pack(from);
    Pack value;
#pragma unroll
    for (int k = 0; k < PACK; k++) value.at[k] = k < count ? from[k] : real(0);
    return value;
}

__device__ __forceinline__ Bytes load(const unsigned char* from, int count) {
    if (count == PACK && aligned<Bytes>(from)) return *reinterpret_cast<const Bytes*>(from);
    Bytes value;
#pragma unroll
    for (int k = 0; k < PACK; k++) value.at[k] = k < count ? from[k] : 0;
    return value;
}

__device__ __forceinline__ void store(real* to, const Pack& value, int count) {
    if (count == PACK && aligned<Pack>(to)) return store_pack(to, value);
#pragma unroll
    for (int k = 0; k < PACK; k++)
        if (k < count) to[k] = value.at[k];
}

__device__ __forceinline__ void store(unsigned char* to, const Bytes& value, int count) {
    if (count == PACK && aligned<Bytes>(to)) {
        *reinterpret_cast<Bytes*>(to) = value;
        return;
    }
#pragma unroll
    for (int k = 0; k < PACK; k++)
        if (k < count) to[k] = value.at[k];
}

// ------------------------------------------------------------------------------------------------ lines of numbers

// The first number of the thread's first pack, and how far it is from there to its next one.
__device__ __forceinline__ index first_number() { return (index(blockIdx.x) * blockDim.x + threadIdx.x) * PACK; }
__device__ __forceinline__ index numbers_of_grid() { return index(gridDim.x) * blockDim.x * PACK; }

// How many numbers the pack has that begins at number k of `size`.
__device__ __forceinline__ int numbers_of_pack(index k, index size) { return int(min(size - k, index(PACK))); }

// -------------------------------------------------------------------------------------------------------- pictures

// The first of the thread's channels, and how many there are of them: 0 where all channels are with other threads.
__device__ __forceinline__ int first_channel() { return int(blockIdx.y * blockDim.x + threadIdx.x) * PACK; }
__device__ __forceinline__ int channels_of_thread(int channels) {
    const int left = channels - first_channel();
    return max(0, min(left, PACK));
}

// The thread's first pixel, and how far it is from there to its next one.
__device__ __forceinline__ index first_pixel() { return index(blockIdx.x) * blockDim.y + threadIdx.y; }
__device__ __forceinline__ index pixels_of_grid() { return index(gridDim.x) * blockDim.y; }

// Pixel (h, w) of image n.
struct Pixel {
    index n, h, w;
};

// Number p of all pixels.  Pictures whose pixels all lie at one distance come as one row, of which nothing is divided.
__device__ __forceinline__ Pixel pixel(index p, index height, index width) {
    const index row = p < width ? 0 : p / width;
    const index n = row < height ? 0 : row / height;
    return {n, row - n * height, p - row * width};
}

// Where in a picture's memory a pixel lies.
__device__ __forceinline__ index place(const Pixel& at, index image_stride, index row_stride, index pixel_stride) {
    return at.n * image_stride + at.h * row_stride + at.w * pixel_stride;
}
