// conv2d as im2col + matrix product (GEMM), the way of the textbooks; read it side by side with im2col.py.
//
//   im2col           columns (pixels, kh kw C): for every pixel of a tile the patch that it looks at
//   gemm             y = columns x matrix + bias, rectified if asked for
//   gemm_transposed  shares of columns^T x gradient, each a sum over some of the tile's pixels
//   add_shares       total += the shares, in their order
//
// Pixels are those of the output, numbered row by row through all pictures; `first` is the number of a tile's first.
#include "prelude.cuh"

constexpr int SIDE = 16;         // a block has 16 x 16 threads, and takes 16 terms of the sums at a time
constexpr int EACH = 4;          // a thread has 4 x 4 sums, 16 rows and 16 columns apart
constexpr int TILE = SIDE * EACH;  // so a block has 64 x 64

// A thread a number of the matrix: columns[p, (i kw + j) C + c] = x[n, h + i - above, w + j - left, c], 0 outside of x.
// Neighbouring threads have neighbouring channels: they read and write whole lines of memory.
extern "C" __global__ void __launch_bounds__(256) im2col(
    const real* x, index image, index row, index pixel, int height, int width, int c, int kh, int kw, int above,
    int left, int out_height, int out_width, index first, int count, real* columns) {
    const index at = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const int size = kh * kw * c;
    const int k = static_cast<int>(at) % size;
    const index p = first + static_cast<int>(at) / size;
    const index h = p / out_width % out_height + k / c / kw - above;
    const index w = p % out_width + k / c % kw - left;
    const index n = p / out_width / out_height;
    const bool inside = 0 <= h && h < height && 0 <= w && w < width;
    columns[at] = inside ? x[n * image + h * row + w * pixel + k % c] : 0;
}

// sums += a column times a row.
__device__ __forceinline__ void add_products(real (&sums)[EACH][EACH], const real (&a)[EACH], const real (&b)[EACH]) {
#pragma unroll
    for (int r = 0; r < EACH; ++r)
#pragma unroll
        for (int s = 0; s < EACH; ++s) sums[r][s] += a[r] * b[s];
}

// columns (pixels, size) x matrix (size, outputs) + bias -> y, whose pixels lie at any distance.
// A block sums 64 pixels x 64 outputs.  It takes 16 terms at a time: its threads copy them into shared memory, wait for
// each other, add up the products, and wait again before the next 16 overwrite them.  Every number that is read from
// memory is used 64 times that way.
extern "C" __global__ void __launch_bounds__(256) gemm(
    const real* columns, const real* matrix, const real* bias, bool relu, int pixels, int size, int outputs,
    index first, int out_height, int out_width, real* y, index image, index row, index pixel) {
    __shared__ real a[TILE][SIDE];
    __shared__ real b[SIDE][TILE];
    const int ty = threadIdx.y, tx = threadIdx.x;
    const index top = static_cast<index>(blockIdx.x) * TILE;
    const int left = blockIdx.y * TILE;
    real sums[EACH][EACH] = {};
    for (int k = 0; k < size; k += SIDE) {
#pragma unroll
        for (int r = 0; r < EACH; ++r) {
            const index p = top + ty + SIDE * r;
            const int o = left + tx + SIDE * r;
            a[ty + SIDE * r][tx] = p < pixels && k + tx < size ? columns[p * size + k + tx] : 0;
            b[ty][tx + SIDE * r] = k + ty < size && o < outputs ? matrix[static_cast<index>(k + ty) * outputs + o] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int term = 0; term < SIDE; ++term) {
            real of_pixels[EACH], of_outputs[EACH];
#pragma unroll
            for (int r = 0; r < EACH; ++r) {
                of_pixels[r] = a[ty + SIDE * r][term];
                of_outputs[r] = b[term][tx + SIDE * r];
            }
            add_products(sums, of_pixels, of_outputs);
        }
        __syncthreads();
    }
    for (int r = 0; r < EACH; ++r) {
        if (top + ty + SIDE * r >= pixels) continue;
        const index p = first + top + ty + SIDE * r;
        const index n = p / out_width / out_height, h = p / out_width % out_height, w = p % out_width;
        for (int s = 0; s < EACH; ++s) {
            const int o = left + tx + SIDE * s;
            if (o >= outputs) continue;
            const real sum = bias ? sums[r][s] + bias[o] : sums[r][s];
            y[n * image + h * row + w * pixel + o] = relu && sum < 0 ? 0 : sum;  // NaN is not < 0 and stays
        }
    }
}

// shares (., size, outputs): share z is columns^T (size, pixels) x gradient (pixels, outputs) summed over the pixels
// from z `each` on, `each` of them.  The same product as above, but both matrices are read row by row: the terms of
// these sums are the rows.
extern "C" __global__ void __launch_bounds__(256) gemm_transposed(
    const real* columns, const real* gradient, int pixels, int size, int outputs, int each, index first, real* shares) {
    __shared__ real a[SIDE][TILE];
    __shared__ real b[SIDE][TILE];
    const int ty = threadIdx.y, tx = threadIdx.x;
    const int top = blockIdx.y * TILE, left = blockIdx.x * TILE;
    const int start = blockIdx.z * each, end = min(pixels, start + each);
    real sums[EACH][EACH] = {};
    for (int p = start; p < end; p += SIDE) {
#pragma unroll
        for (int r = 0; r < EACH; ++r) {
            const int k = top + tx + SIDE * r, o = left + tx + SIDE * r;
            const index row = p + ty;
            a[ty][tx + SIDE * r] = row < end && k < size ? columns[row * size + k] : 0;
            b[ty][tx + SIDE * r] = row < end && o < outputs ? gradient[(first + row) * outputs + o] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int term = 0; term < SIDE; ++term) {
            real of_patches[EACH], of_outputs[EACH];
#pragma unroll
            for (int r = 0; r < EACH; ++r) {
                of_patches[r] = a[term][ty + SIDE * r];
                of_outputs[r] = b[term][tx + SIDE * r];
            }
            add_products(sums, of_patches, of_outputs);
        }
        __syncthreads();
    }
    for (int r = 0; r < EACH; ++r)
        for (int s = 0; s < EACH; ++s) {
            const index k = top + ty + SIDE * r, o = left + tx + SIDE * s;
            if (k < size && o < outputs) shares[(blockIdx.z * static_cast<index>(size) + k) * outputs + o] = sums[r][s];
        }
}

// A thread a number: total += the shares, one after the other, so that the sum has the same bits every time.
extern "C" __global__ void __launch_bounds__(256) add_shares(const real* shares, int count, index size, real* total) {
    const index at = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= size) return;
    real sum = total[at];
    for (int share = 0; share < count; ++share) sum += shares[share * size + at];
    total[at] = sum;
}
