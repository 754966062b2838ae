// conv2d as an implicit GEMM on tensor cores (TF32): inputs rounded to 10 bits of mantissa, sums in float32.
//
//   pack_weight                           the weights as correlate reads them, rounded
//   correlate_packs, correlate_numbers    y[p, o] = sum over k of patch(p)[k] weight[k, o], plus bias, rectified
//   weight_packs, weight_numbers          shares of dw[k, o] = sum over p of patch(p)[k] gradient[p, o]
//   add_shares                            total = the shares, added up in their order
//
// p counts the pixels of the output through all pictures; k = (i kw + j) C + c the numbers of a patch.  No matrix of
// columns is written: each block copies the pieces of patches that it needs next into shared memory.  The kernels
// called _packs copy 16 bytes at a time, without waiting for them (C must be a multiple of 4, and all addresses of 16
// bytes); those called _numbers are for all other pictures.
#include "prelude.cuh"

constexpr int THREADS = 128;  // 4 warps, two by two
constexpr int TALL = 128;     // rows of a block's tile of sums: pixels, or numbers of a patch
constexpr int WIDE = 64;      // its columns: output channels
constexpr int STEP = 16;      // terms of the sums that are copied and multiplied at a time
constexpr int STAGES = 3;     // buffers: one is multiplied while the copies into two others are under way
constexpr int CHUNK = 4;      // numbers in 16 bytes
constexpr int M = 4, N = 4;   // a warp's tile of sums, in fragments of 16 x 8: 64 x 32

#if defined(CUDA_EMULATED) || __CUDA_ARCH__ >= 800

// A place in a patch: row and column in the kernel, and channel.
struct Tap {
    int i, j, c;

    __device__ __forceinline__ void advance(int count, int channels, int kw) {
        c += count;
        while (c >= channels) {
            c -= channels;
            if (++j == kw) {
                j = 0;
                ++i;
            }
        }
    }
};

__device__ __forceinline__ Tap tap_of(int k, int channels, int kw) {
    return {k / channels / kw, k / channels % kw, k % channels};
}

// A place in the output: picture, row and column.
struct Place {
    int n, h, w;

    __device__ __forceinline__ void advance(int count, int height, int width) {
        w += count;
        while (w >= width) {
            w -= width;
            if (++h == height) {
                h = 0;
                ++n;
            }
        }
    }
};

__device__ __forceinline__ Place place_of(index p, int height, int width) {
    const index line = p / width;
    return {static_cast<int>(line / height), static_cast<int>(line % height), static_cast<int>(p % width)};
}

// Where the pictures of the input lie, and the number that a tap of the patch with corner (n, h, w) looks at.
struct Input {
    const float* x;
    index image, row, pixel;
    int height, width, channels, kh, kw;

    __device__ __forceinline__ index corner(int n, int h, int w) const { return n * image + h * row + w * pixel; }
    __device__ __forceinline__ bool has(const Tap& tap, int h, int w) const {
        return tap.i < kh && static_cast<unsigned>(h + tap.i) < static_cast<unsigned>(height) &&
               static_cast<unsigned>(w + tap.j) < static_cast<unsigned>(width);
    }
    __device__ __forceinline__ const float* at(const Tap& tap, index corner) const {
        return x + (corner + tap.i * row + tap.j * pixel + tap.c);
    }
};

constexpr int NOWHERE = -(1 << 30);  // a row that is outside of every picture, and stays so whatever tap is added

// Copies COUNT chunks of 4 numbers of patches, `apart` numbers apart in shared memory: those from `tap` on, of the
// patches with these corners.  Zeros where a patch reaches out of the picture or has no such number.
template <bool PACKS, int COUNT>
__device__ __forceinline__ void copy_patches(const Input& in, Tap tap, const index (&corner)[COUNT],
                                             const int (&h)[COUNT], const int (&w)[COUNT], float* to, int apart) {
    if (PACKS) {
#pragma unroll
        for (int r = 0; r < COUNT; ++r) {
            const bool inside = in.has(tap, h[r], w[r]);
            copy_async(to + r * apart, inside ? in.at(tap, corner[r]) : in.x, inside);
        }
    } else {
        float values[CHUNK][COUNT];
#pragma unroll
        for (int v = 0; v < CHUNK; ++v) {
#pragma unroll
            for (int r = 0; r < COUNT; ++r) values[v][r] = in.has(tap, h[r], w[r]) ? *in.at(tap, corner[r]) : 0;
            tap.advance(1, in.channels, in.kw);
        }
#pragma unroll
        for (int v = 0; v < CHUNK; ++v)
#pragma unroll
            for (int r = 0; r < COUNT; ++r) to[r * apart + v] = values[v][r];
    }
}

// Writes the first `there` of eight neighbouring numbers; packs: 16 bytes at a time, if `there` is a multiple of 4.
__device__ __forceinline__ void store_eight(float* to, const float (&values)[8], int there, bool packs) {
#pragma unroll
    for (int part = 0; part < 8; part += CHUNK) {
        if (packs) {
            const Pack pack = {values[part], values[part + 1], values[part + 2], values[part + 3]};
            if (part < there) store_pack(to + part, pack);
        } else {
#pragma unroll
            for (int v = part; v < part + CHUNK; ++v)
                if (v < there) to[v] = values[v];
        }
    }
}

// ------------------------------------------------------------------------------------------------------- correlate

constexpr int PATCHES = TALL * STEP;  // numbers in a buffer of patches: (pixel, k)
constexpr int WEIGHTS = WIDE * STEP;  // numbers in a buffer of weights: (output, k)

// sums += patches x weights, for the 64 pixels and 32 outputs of a warp.
//
// A fragment's lane (g, t) = (lane / 4, lane % 4) gives the terms t and t + 4 of its row g.  In which order a sum takes
// its terms is free, if only patches and weights agree.  So the lane reads four neighbours, 4 t ... 4 t + 3 of the 16
// of this step, as one pack, and gives two of them to each of two fragments: eight lanes then read two whole rows,
// which lie in different banks.  The order of the outputs is free as well: fragment j has 8 t + 2 j and 8 t + 2 j + 1
// in the columns that lane t will hold, which ends up with eight neighbours and stores them as two packs.
__device__ __forceinline__ void multiply(float (&sums)[M][N][4], const float* patches, const float* weights) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    unsigned b[N][CHUNK];
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const Pack row = load_pack(weights + (g / 2 * 8 + 2 * j + g % 2) * STEP + CHUNK * t);
#pragma unroll
        for (int v = 0; v < CHUNK; ++v) b[j][v] = __float_as_uint(row.at[v]);  // rounded by pack_weight
    }
#pragma unroll
    for (int m = 0; m < M; ++m) {
        const Pack upper = load_pack(patches + (16 * m + g) * STEP + CHUNK * t);
        const Pack lower = load_pack(patches + (16 * m + g + 8) * STEP + CHUNK * t);
#pragma unroll
        for (int v = 0; v < CHUNK; v += 2) {
            const unsigned a[4] = {to_tf32(upper.at[v]), to_tf32(lower.at[v]), to_tf32(upper.at[v + 1]),
                                   to_tf32(lower.at[v + 1])};
#pragma unroll
            for (int j = 0; j < N; ++j) {
                const unsigned terms[2] = {b[j][v], b[j][v + 1]};
                mma_tf32(sums[m][j], a, terms);
            }
        }
    }
}

// Where the pictures of the output lie.
struct Output {
    float* y;
    index image, row, pixel, pixels;
    int height, width, outputs;
    bool packs;  // whether they can be written 16 bytes at a time
};

// Adds the bias, rectifies and writes the 64 pixels from p on and the 32 outputs from o on.
__device__ __forceinline__ void store(const Output& out, float (&sums)[M][N][4], index p, int o, const float* bias,
                                      bool relu) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    o += 8 * t;
    float offset[8];
#pragma unroll
    for (int v = 0; v < 8; ++v) offset[v] = bias && o + v < out.outputs ? bias[o + v] : 0;
    Place place = place_of(p + g, out.height, out.width);
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            if (p + g + 16 * m + 8 * half >= out.pixels) return;
            float* to = out.y + (place.n * out.image + place.h * out.row + place.w * out.pixel + o);
            place.advance(8, out.height, out.width);
            float values[8];
#pragma unroll
            for (int v = 0; v < 8; ++v) {
                const float sum = sums[m][v / 2][2 * half + v % 2] + offset[v];
                values[v] = relu && sum < 0 ? 0 : sum;  // NaN is not < 0 and stays
            }
            store_eight(to, values, out.outputs - o, out.packs);
        }
}

// weight: as pack_weight writes it.
template <bool PACKS>
__device__ __forceinline__ void correlate(const Input& in, int above, int left, const float* weight, const float* bias,
                                          bool relu, const Output& out) {
    constexpr int ROWS = THREADS / (STEP / CHUNK);  // pixels whose chunks the threads copy at a time
    constexpr int COUNT = TALL / ROWS;
    float* buffers = dynamic_shared<float>();
    const int tiles = (out.outputs + WIDE - 1) / WIDE;
    const index p = static_cast<index>(blockIdx.x / tiles) * TALL;
    const int o = blockIdx.x % tiles * WIDE;
    const int steps = (in.kh * in.kw * in.channels + STEP - 1) / STEP;

    // What this thread copies: of every 32nd pixel of the tile the same four numbers of the patch.
    const int chunk = threadIdx.x % (STEP / CHUNK) * CHUNK, first = threadIdx.x / (STEP / CHUNK);
    Tap tap = tap_of(chunk, in.channels, in.kw);
    index corner[COUNT];
    int h[COUNT], w[COUNT];
    Place place = place_of(p + first, out.height, out.width);
#pragma unroll
    for (int r = 0; r < COUNT; ++r) {
        h[r] = p + first + r * ROWS < out.pixels ? place.h - above : NOWHERE;
        w[r] = place.w - left;
        corner[r] = in.corner(place.n, place.h - above, w[r]);
        place.advance(ROWS, out.height, out.width);
    }

    const auto copy = [&](int step) {
        float* patches = buffers + step % STAGES * (PATCHES + WEIGHTS);
        if (step < steps) {
            copy_patches<PACKS>(in, tap, corner, h, w, patches + first * STEP + chunk, ROWS * STEP);
            tap.advance(STEP, in.channels, in.kw);
            const float* from = weight + (static_cast<index>(step) * tiles * WIDE + o) * STEP;
#pragma unroll
            for (int r = 0; r < WEIGHTS / CHUNK / THREADS; ++r) {
                const int at = (r * THREADS + threadIdx.x) * CHUNK;
                copy_async(patches + PATCHES + at, from + at, true);
            }
        }
        copy_async_commit();  // also where nothing was copied, so that groups count steps
    };

    float sums[M][N][4] = {};
    const int warp = threadIdx.x / WARP, down = warp / 2 * 16 * M, across = warp % 2 * 8 * N;
    for (int step = 0; step < STAGES - 1; ++step) copy(step);
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();  // this step's buffer is full, and the one before it has been multiplied by all
        copy(step + STAGES - 1);
        const float* patches = buffers + step % STAGES * (PATCHES + WEIGHTS);
        multiply(sums, patches + down * STEP, patches + PATCHES + across * STEP);
    }
    store(out, sums, p + down, o + across, bias, relu);
}

#endif

// packed[k / 16, o, k % 16] = weight of output o, channel c and tap (i, j) for k = (i kw + j) C + c, rounded to TF32:
// what a block copies at a step lies together.  Zeros for outputs up to a multiple of 64 and k up to a multiple of 16.
// That weight is at weight[start + o by_output + c by_channel + i by_row + j by_column].  A thread a number; there are
// so many that they fill whole blocks of threads.
extern "C" __global__ void __launch_bounds__(256) pack_weight(
    const float* weight, index start, index by_output, index by_channel, index by_row, index by_column, int outputs,
    int channels, int kh, int kw, int packed_outputs, float* packed) {
#if defined(CUDA_EMULATED) || __CUDA_ARCH__ >= 800
    const index at = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int o = at / STEP % packed_outputs;
    const int k = at / STEP / packed_outputs * STEP + at % STEP;
    const Tap tap = tap_of(k, channels, kw);
    const bool there = o < outputs && tap.i < kh;
    const index from = start + o * by_output + tap.c * by_channel + tap.i * by_row + tap.j * by_column;
    packed[at] = there ? __uint_as_float(to_tf32(weight[from])) : 0;
#endif
}

extern "C" __global__ void __launch_bounds__(128) correlate_packs(
    const float* x, index image, index row, index pixel, int height, int width, int channels, int kh, int kw, int above,
    int left, const float* weight, const float* bias, bool relu, float* y, index y_image, index y_row, index y_pixel,
    index pixels, int y_height, int y_width, int outputs, bool y_packs) {
#if defined(CUDA_EMULATED) || __CUDA_ARCH__ >= 800
    correlate<true>({x, image, row, pixel, height, width, channels, kh, kw}, above, left, weight, bias, relu,
                    {y, y_image, y_row, y_pixel, pixels, y_height, y_width, outputs, y_packs});
#endif
}

extern "C" __global__ void __launch_bounds__(128) correlate_numbers(
    const float* x, index image, index row, index pixel, int height, int width, int channels, int kh, int kw, int above,
    int left, const float* weight, const float* bias, bool relu, float* y, index y_image, index y_row, index y_pixel,
    index pixels, int y_height, int y_width, int outputs, bool y_packs) {
#if defined(CUDA_EMULATED) || __CUDA_ARCH__ >= 800
    correlate<false>({x, image, row, pixel, height, width, channels, kh, kw}, above, left, weight, bias, relu,
                     {y, y_image, y_row, y_pixel, pixels, y_height, y_width, outputs, y_packs});
#endif
}

// ---------------------------------------------------------------------------------------- the gradient of the weights

#if defined(CUDA_EMULATED) || __CUDA_ARCH__ >= 800

// In shared memory the patches and the gradient lie pixel by pixel.  Rows are 8 numbers longer than need be: the packs
// of pixels t = 0 ... 3 that eight lanes read at once then lie in different banks.
constexpr int PATCH_ROW = TALL + 8, GRADIENT_ROW = WIDE + 8;
constexpr int PATCH_ROWS = STEP * PATCH_ROW;  // numbers in a buffer of patches: (pixel, k)
constexpr int GRADIENT_ROWS = STEP * GRADIENT_ROW;

// sums += patches^T x gradient, for the 64 numbers of patches and 32 outputs of a warp.
//
// The pixels are the terms of these sums, and lie in shared memory in their order.  Free is now the order of both the
// patches' numbers and the outputs: of each 32 lane (g, t) takes the four neighbours from 4 g on, as one pack.  So rows
// g and g + 8 of fragment m are the numbers 32 (m / 2) + 4 g + 2 (m % 2) and the next one, and column g of fragment j
// is output 4 g + j.
__device__ __forceinline__ void multiply_transposed(float (&sums)[M][N][4], const float* patches,
                                                    const float* gradient) {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int p = 0; p < STEP; p += 8) {
        Pack b[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) b[half] = load_pack(gradient + (p + t + 4 * half) * GRADIENT_ROW + 4 * g);
        unsigned terms[N][2];
#pragma unroll
        for (int j = 0; j < N; ++j) {
            terms[j][0] = to_tf32(b[0].at[j]);
            terms[j][1] = to_tf32(b[1].at[j]);
        }
#pragma unroll
        for (int m = 0; m < M; m += 2) {
            const float* from = patches + (p + t) * PATCH_ROW + 16 * m + 4 * g;
            const Pack left = load_pack(from), right = load_pack(from + 4 * PATCH_ROW);
#pragma unroll
            for (int v = 0; v < 4; v += 2) {
                const unsigned a[4] = {to_tf32(left.at[v]), to_tf32(left.at[v + 1]), to_tf32(right.at[v]),
                                       to_tf32(right.at[v + 1])};
#pragma unroll
                for (int j = 0; j < N; ++j) mma_tf32(sums[m + v / 2][j], a, terms[j]);
            }
        }
    }
}

// gradient: (pixels, outputs), contiguous.  A block sums the pixels of its share, from blockIdx.z `each` on, for 128
// numbers k of the patches and 64 outputs, and writes shares (., size, outputs).
template <bool PACKS>
__device__ __forceinline__ void weight_share(const Input& in, int above, int left, const float* gradient, index pixels,
                                             int out_height, int out_width, int outputs, int each, float* shares) {
    constexpr int PATCH_CHUNKS = TALL / CHUNK, GRADIENT_CHUNKS = WIDE / CHUNK;
    constexpr int ROWS = THREADS / PATCH_CHUNKS, COUNT = STEP / ROWS;
    float* buffers = dynamic_shared<float>();
    const int size = in.kh * in.kw * in.channels;
    const int k = blockIdx.y * TALL, o = blockIdx.x * WIDE;
    const index start = static_cast<index>(blockIdx.z) * each, end = min(pixels, start + each);
    const int steps = static_cast<int>((end - start + STEP - 1) / STEP);

    // What this thread copies: the same four numbers of the patch, of every 4th pixel; and four outputs of every 8th.
    const int chunk = threadIdx.x % PATCH_CHUNKS * CHUNK, first = threadIdx.x / PATCH_CHUNKS;
    const int output = threadIdx.x % GRADIENT_CHUNKS * CHUNK, row = threadIdx.x / GRADIENT_CHUNKS;
    const Tap tap = tap_of(k + chunk, in.channels, in.kw);
    Place place = place_of(start + first, out_height, out_width);

    const auto copy = [&](int step) {
        float* patches = buffers + step % STAGES * (PATCH_ROWS + GRADIENT_ROWS);
        float* to = patches + PATCH_ROWS + row * GRADIENT_ROW + output;
        if (step < steps) {
            const index p = start + static_cast<index>(step) * STEP;
            index corner[COUNT];
            int h[COUNT], w[COUNT];
#pragma unroll
            for (int r = 0; r < COUNT; ++r) {
                h[r] = p + first + r * ROWS < end ? place.h - above : NOWHERE;
                w[r] = place.w - left;
                corner[r] = in.corner(place.n, place.h - above, w[r]);
                place.advance(ROWS, out_height, out_width);
            }
            copy_patches<PACKS>(in, tap, corner, h, w, patches + first * PATCH_ROW + chunk, ROWS * PATCH_ROW);
#pragma unroll
            for (int r = 0; r < STEP; r += THREADS / GRADIENT_CHUNKS) {
                const bool there = p + row + r < end;
                const float* from = gradient + (there ? (p + row + r) * outputs + o + output : 0);
                if (PACKS) {
                    const bool inside = there && o + output < outputs;
                    copy_async(to + r * GRADIENT_ROW, inside ? from : gradient, inside);
                } else {
#pragma unroll
                    for (int v = 0; v < CHUNK; ++v)
                        to[r * GRADIENT_ROW + v] = there && o + output + v < outputs ? from[v] : 0;
                }
            }
        }
        copy_async_commit();
    };

    float sums[M][N][4] = {};
    const int warp = threadIdx.x / WARP, down = warp / 2 * 16 * M, across = warp % 2 * 8 * N;
    for (int step = 0; step < STAGES - 1; ++step) copy(step);
    for (int step = 0; step < steps; ++step) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        copy(step + STAGES - 1);
        const float* patches = buffers + step % STAGES * (PATCH_ROWS + GRADIENT_ROWS);
        multiply_transposed(sums, patches + down, patches + PATCH_ROWS + across);
    }
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const index number = k + down + 32 * (m / 2) + 4 * g + 2 * (m % 2) + half;
            if (number >= size) return;
            float values[8];
#pragma unroll
            for (int v = 0; v < 8; ++v) values[v] = sums[m][v % 4][2 * half + v / 4];
            float* to = shares + (static_cast<index>(blockIdx.z) * size + number) * outputs + o + across + 8 * t;
            store_eight(to, values, outputs - o - across - 8 * t, PACKS);
        }
}

#endif

extern "C" __global__ void __launch_bounds__(128) weight_packs(
    const float* x, index image, index row, index pixel, int height, int width, int channels, int kh, int kw, int above,
    int left, const float* gradient, index pixels, int out_height, int out_width, int outputs, int each,
    float* shares) {
#if defined(CUDA_EMULATED) || __CUDA_ARCH__ >= 800
    weight_share<true>({x, image, row, pixel, height, width, channels, kh, kw}, above, left, gradient, pixels,
                       out_height, out_width, outputs, each, shares);
#endif
}

extern "C" __global__ void __launch_bounds__(128) weight_numbers(
    const float* x, index image, index row, index pixel, int height, int width, int channels, int kh, int kw, int above,
    int left, const float* gradient, index pixels, int out_height, int out_width, int outputs, int each,
    float* shares) {
#if defined(CUDA_EMULATED) || __CUDA_ARCH__ >= 800
    weight_share<false>({x, image, row, pixel, height, width, channels, kh, kw}, above, left, gradient, pixels,
                        out_height, out_width, outputs, each, shares);
#endif
}

// A thread a number: total = the sum of the shares, one after the other, so that it has the same bits every time.
extern "C" __global__ void __launch_bounds__(256) add_shares(const float* shares, int count, index size, float* total) {
    const index at = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= size) return;
    float sum = 0;
    for (int share = 0; share < count; ++share) sum += shares[share * size + at];
    total[at] = sum;
}
