// Sums over pixels in two stages: each block adds up its share of the pixels, then one block adds up the blocks.
//
// Which numbers are added to which depends on the shape alone, never on the device; chains of additions are short, so
// that the rounding errors of long float32 sums stay small.
#pragma once
#include "loops.cuh"

// Number of the thread in its block.
__device__ __forceinline__ int thread_of_block() { return int(threadIdx.y * blockDim.x + threadIdx.x); }

// The pixels of this block; the thread takes every blockDim.y-th of them, first_of_thread the first.
__device__ __forceinline__ index first_of_thread(index pixels_of_block) {
    return blockIdx.x * pixels_of_block + threadIdx.y;
}
__device__ __forceinline__ index end_of_block(index pixels_of_block, index pixels) {
    return min((index(blockIdx.x) + 1) * pixels_of_block, pixels);
}

__device__ __forceinline__ void add(Pack& sums, const Pack& value) {
#pragma unroll
    for (int k = 0; k < PACK; k++) sums.at[k] += value.at[k];
}

// out[k] = the sum of the block's threads that have the same channels, of which there are `count`.
// shared: PACK * THREADS numbers, free to be written.
__device__ __forceinline__ void add_threads(const Pack& sums, real* shared, int count, real* out) {
    const int thread = thread_of_block(), across = blockDim.x;
#pragma unroll
    for (int k = 0; k < PACK; k++) shared[k * THREADS + thread] = sums.at[k];
    __syncthreads();
    for (int rows = blockDim.y; rows > 1; rows = (rows + 1) / 2) {
        const int half = (rows + 1) / 2;  // row r takes row r + half
        if (int(threadIdx.y) + half < rows) {
#pragma unroll
            for (int k = 0; k < PACK; k++) shared[k * THREADS + thread] += shared[k * THREADS + thread + half * across];
        }
        __syncthreads();
    }
    if (threadIdx.y == 0) {
        Pack total;
#pragma unroll
        for (int k = 0; k < PACK; k++) total.at[k] = shared[k * THREADS + thread];
        store(out, total, count);
    }
}

// *out = the sum over a block of THREADS threads in one line.  shared: THREADS numbers, free to be written.
__device__ __forceinline__ void add_line_of_threads(double sum, double* shared, double* out) {
    const int thread = threadIdx.x;
    shared[thread] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (thread < half) shared[thread] += shared[thread + half];
        __syncthreads();
    }
    if (thread == 0) *out = shared[0];
}
