// The loops around the register tile (correlation.py launches them): conv2d and conv_transpose2d as matrix products
// whose left matrix is never written down ("implicit GEMM").
//
//     correlate:         rows are pixels of y, columns its channels o, summed over k = (i, j, c), c fastest
//     correlate_weight:  rows are r = (i, j, c), columns are o, summed over the pixels of g
//
// A block computes a tile of rows x columns.  Stage after stage of the sum goes from global memory through registers
// into one of two buffers in shared memory, while the other buffer is multiplied: 2 x 2 packs of outputs a thread.
// Every size that counts is a multiple of PACK, so the same text serves float (tiles of 128 x 64) and double (64 x 32).
#include "prelude.cuh"

constexpr int THREADS = 128;
constexpr int LINE = 8;              // packs in 128 bytes, which global memory delivers as one
constexpr int DEPTH = LINE * PACK;   // numbers k of a stage of correlate: a line of channels
constexpr int PIXELS = 32 * PACK;    // of a tile of correlate
constexpr int PASS = 16;             // pixels that a block reads at a time: 8 threads a line
constexpr int SUM_ROWS = 8;          // of a block of sum_parts

// A picture that is read, a picture that is written, and how the kernel's taps lie on the first.
struct Picture {
    const real* at;
    index image, row, pixel;
    int height, width, channels;
};
struct Target {
    real* at;
    index image, row, pixel;
    int height, width, channels;
    int spread;  // distance of the pixels that one tap writes; 1 where there is one tap
};
struct Window {
    int kh, kw, top, left, stride;
};

__device__ __forceinline__ int parts_of(int size, int part) { return (size + part - 1) / part; }

// A warp's threads lie 4 down and 8 across a tile.  Lanes 2n and 2n + 1 read the same rows, lanes n and n + 2 the same
// columns: then 16 lanes are served with one access to shared memory.
__device__ __forceinline__ int lane_row(int lane) { return (lane >> 1 & 1) | (lane >> 3 & 2); }
__device__ __forceinline__ int lane_column(int lane) { return (lane & 1) | (lane >> 1 & 6); }

__device__ __forceinline__ Pack zeros() {
    Pack pack;
#pragma unroll
    for (int e = 0; e < PACK; ++e) pack.at[e] = 0;
    return pack;
}

// sums += column vector a (DOWN packs, row_step apart) times row vector b (ACROSS packs, column_step apart).
template <int DOWN, int ACROSS>
__device__ __forceinline__ void multiply(const real* a, int row_step, const real* b, int column_step,
                                         real (&sums)[DOWN * PACK][ACROSS * PACK]) {
    Pack left[DOWN], right[ACROSS];
#pragma unroll
    for (int p = 0; p < DOWN; ++p) left[p] = load_pack(a + p * row_step);
#pragma unroll
    for (int p = 0; p < ACROSS; ++p) right[p] = load_pack(b + p * column_step);
#pragma unroll
    for (int m = 0; m < DOWN * PACK; ++m)
#pragma unroll
        for (int o = 0; o < ACROSS * PACK; ++o)
            sums[m][o] += left[m / PACK].at[m % PACK] * right[o / PACK].at[o % PACK];
}

// ------------------------------------------------------------------------------------------------------- correlate

// Where number k = (i, j, c) of a pixel's sum lies; moved from pixel to pixel.
struct Tap {
    const real* at;
    int h;        // its row in the picture
    bool inside;  // its column is in the picture, and k in the sum
};

// pixel, h, w: of the pixel's first tap, which may lie outside of the picture.
__device__ __forceinline__ Tap find_tap(unsigned k, const real* pixel, int h, int w, const Picture& x,
                                        const Window& window) {
    const unsigned tap = k / x.channels, c = k - tap * x.channels;
    const unsigned i = tap / window.kw, j = tap - i * window.kw;
    const bool inside = i < unsigned(window.kh) && unsigned(w + int(j)) < unsigned(x.width);
    return {pixel + (i * x.row + j * x.pixel + c), h + int(i), inside};
}

// PACK numbers k of a pixel, with zeros outside of the picture.
// VECTOR: they are neighbours in memory, and taps[0] is the first one's.
template <bool VECTOR>
__device__ __forceinline__ Pack gather(const Tap* taps, int height) {
    Pack found = zeros();
    if (VECTOR) {
        if (taps[0].inside && unsigned(taps[0].h) < unsigned(height)) found = load_pack(taps[0].at);
    } else {
#pragma unroll
        for (int e = 0; e < PACK; ++e)
            if (taps[e].inside && unsigned(taps[e].h) < unsigned(height)) found.at[e] = *taps[e].at;
    }
    return found;
}

// Where the PACK numbers k of a group lie in a buffer, for pixel m; the next one of them PIXELS further on.  A pixel's
// line is written by 8 threads that go down in k, and read along the pixels: turned like this, neither has two lanes of
// a group at the same bank.
__device__ __forceinline__ int turned(int group, int m) { return group * PACK * PIXELS + (m ^ group * PACK); }

// Add the bias, cut off what is negative (relu; NaN stays), and store a thread's outputs where they belong.
// q: the first column, (i, j, o) with a spread, else o.
template <int COLUMN_PACKS>
__device__ __forceinline__ void write_back(real (&sums)[2 * PACK][COLUMN_PACKS * PACK], const real* bias, bool relu,
                                           bool packs, const Target& y, index image, int h0, int w0, int tile_rows,
                                           int m0, int q0) {
    const int columns = y.spread * y.spread * y.channels;
#pragma unroll
    for (int p = 0; p < COLUMN_PACKS; ++p) {
        const Pack shift = load_pack(bias + q0 + p * LINE * PACK);
#pragma unroll
        for (int m = 0; m < 2 * PACK; ++m)
#pragma unroll
            for (int e = 0; e < PACK; ++e) {
                real& value = sums[m][p * PACK + e];
                value += shift.at[e];
                value = relu && value < 0 ? real(0) : value;
            }
#pragma unroll
        for (int m = 0; m < 2 * PACK; ++m) {
            const int at = m0 + m % PACK + m / PACK * (PIXELS / 2);
            const int h = h0 + at / PASS * tile_rows + at % PASS * tile_rows / PASS;
            const int w = w0 + at % (PASS / tile_rows);
            if (h >= y.height || w >= y.width) continue;
            const int q = q0 + p * LINE * PACK;
            const auto place = [&](int column) {
                const int tap = column / y.channels;
                const index row = index(h) * y.spread + tap / y.spread, pixel = index(w) * y.spread + tap % y.spread;
                return y.at + image * y.image + row * y.row + pixel * y.pixel + column % y.channels;
            };
            if (packs) {
                Pack pack;
#pragma unroll
                for (int e = 0; e < PACK; ++e) pack.at[e] = sums[m][p * PACK + e];
                if (q < columns) store_pack(place(q), pack);
            } else {
#pragma unroll
                for (int e = 0; e < PACK; ++e)
                    if (q + e < columns) *place(q + e) = sums[m][p * PACK + e];
            }
        }
    }
}

// One tile of y.  weight: as pack_weight of correlation.py leaves it.  patch, panel: two buffers each, of
// DEPTH x PIXELS and of DEPTH x columns numbers.
template <int COLUMN_PACKS, bool VECTOR>
__device__ __forceinline__ void correlate(const Picture& x, const real* weight, const Window& window, const Target& y,
                                          int tile_rows, bool relu, bool packs, real* patch, real* panel) {
    constexpr int ROW_PACKS = LINE * COLUMN_PACKS, COLUMNS = ROW_PACKS * PACK;
    constexpr int STEPS = THREADS / ROW_PACKS;        // numbers k of a phase: every thread reads one pack of the weight
    constexpr int PASSES = 2 * PACK * STEPS / DEPTH;  // of x in a phase
    const int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;

    // The block's tile: image, rows and columns of pixels, columns of the product.
    const int tile_columns = PASS / tile_rows;
    const int groups = parts_of(y.spread * y.spread * y.channels, COLUMNS);
    const int across = parts_of(y.width, tile_columns), down = parts_of(y.height, 2 * PACK * tile_rows);
    const int q0 = blockIdx.x % groups * COLUMNS, tile = blockIdx.x / groups;
    const int w0 = tile % across * tile_columns, h0 = tile / across % down * (2 * PACK * tile_rows);
    const index image = tile / across / down;

    // What a thread reads: PACK numbers k of every 16th pixel, and of the weight a pack in every STEPS-th row.
    const int group = lane % LINE, first = warp * (WARP / LINE) + lane / LINE;
    const int h = (h0 + first * tile_rows / PASS) * window.stride - window.top;
    const int w = (w0 + first % tile_columns) * window.stride - window.left;
    const int rows = tile_rows * window.stride;
    const index step = rows * x.row;
    const real* pixel = x.at + image * x.image + h * x.row + w * x.pixel;
    const int row = thread / ROW_PACKS, column = thread % ROW_PACKS * PACK;
    const index weight_row = index(groups) * COLUMNS, weight_step = STEPS * weight_row;
    const real* weights = weight + row * weight_row + q0 + column;

    // Where it puts them, and what it multiplies.
    const int put[2] = {turned(group, first), turned(group, PASS + first)};
    const int m0 = (warp * 4 + lane_row(lane)) * PACK, o0 = lane_column(lane) * PACK;
    real sums[2 * PACK][COLUMN_PACKS * PACK] = {};

    const int depth = window.kh * window.kw * x.channels, stages = parts_of(depth, DEPTH);
    for (int stage = -1; stage < stages; ++stage) {  // the first one has nothing to multiply yet
        const real *a = patch + (stage & 1) * DEPTH * PIXELS, *b = panel + (stage & 1) * DEPTH * COLUMNS;
        real* next_a = patch + (~stage & 1) * DEPTH * PIXELS;
        const int next_b = (~stage & 1) * DEPTH * COLUMNS;
        Tap taps[VECTOR ? 1 : PACK];
#pragma unroll
        for (int e = 0; e < (VECTOR ? 1 : PACK); ++e)
            taps[e] = find_tap((stage + 1) * DEPTH + group * PACK + e, pixel, h, w, x, window);
#pragma unroll 1
        for (int phase = 0; phase < DEPTH / STEPS; ++phase) {
            Pack read[PASSES];
#pragma unroll
            for (int p = 0; p < PASSES; ++p) {
                read[p] = gather<VECTOR>(taps, x.height);
#pragma unroll
                for (int e = 0; e < (VECTOR ? 1 : PACK); ++e) {
                    taps[e].at += step;
                    taps[e].h += rows;
                }
            }
            const Pack weight_pack = load_pack(weights);
            weights += weight_step;
            if (stage >= 0 && stage * DEPTH + phase * STEPS < depth) {
#pragma unroll
                for (int k = 0; k < STEPS; k += PACK) {
                    const real* rows_of_a = a + turned((phase * STEPS + k) / PACK, m0);
                    const real* rows_of_b = b + (phase * STEPS + k) * COLUMNS + o0;
#pragma unroll
                    for (int e = 0; e < PACK; ++e)
                        multiply<2, COLUMN_PACKS>(rows_of_a + e * PIXELS, PIXELS / 2, rows_of_b + e * COLUMNS,
                                                  LINE * PACK, sums);
                }
            }
#pragma unroll
            for (int p = 0; p < PASSES; ++p)
#pragma unroll
                for (int e = 0; e < PACK; ++e)
                    next_a[put[p % 2] + (phase * PASSES + p / 2 * 2) * PASS + e * PIXELS] = read[p].at[e];
            // ^ is + here, but keeps the compiler from an induction that forgets the alignment.
            store_pack(panel + (((phase * STEPS + row) * COLUMNS + column) ^ next_b), weight_pack);
        }
        __syncthreads();
    }
    const real* bias = weight + stages * DEPTH * weight_row;  // behind the last row
    write_back<COLUMN_PACKS>(sums, bias, relu, packs, y, image, h0, w0, tile_rows, m0, q0 + o0);
}

// The four kernels: tiles of 128 pixels x 64 channels ("wide") or x 32 ("narrow"; half of both sides in double), with
// vector loads of x or, for channels that are no multiple of PACK or do not lie so, with single ones.
// top, left: zeros above and to the left.  tile_rows: rows of 16 pixels of a tile.
// packs: whether y takes vector stores.
extern "C" __global__ void __launch_bounds__(128)
    correlate_wide(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                   const real* weight, int kh, int kw, int top, int left, int stride, real* y,
                   index y_image, index y_row, index y_pixel, int y_height, int y_width, int outputs, int spread,
                   int tile_rows, bool relu, bool packs) {
    alignas(16) __shared__ real patch[2 * DEPTH * PIXELS];
    alignas(16) __shared__ real panel[2 * DEPTH * 2 * LINE * PACK];
    correlate<2, true>({x, x_image, x_row, x_pixel, height, width, channels}, weight, {kh, kw, top, left, stride},
                       {y, y_image, y_row, y_pixel, y_height, y_width, outputs, spread}, tile_rows, relu, packs, patch,
                       panel);
}

extern "C" __global__ void __launch_bounds__(128)
    correlate_wide_scalar(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                          const real* weight, int kh, int kw, int top, int left, int stride, real* y,
                          index y_image, index y_row, index y_pixel, int y_height, int y_width, int outputs, int spread,
                          int tile_rows, bool relu, bool packs) {
    alignas(16) __shared__ real patch[2 * DEPTH * PIXELS];
    alignas(16) __shared__ real panel[2 * DEPTH * 2 * LINE * PACK];
    correlate<2, false>({x, x_image, x_row, x_pixel, height, width, channels}, weight, {kh, kw, top, left, stride},
                        {y, y_image, y_row, y_pixel, y_height, y_width, outputs, spread}, tile_rows, relu, packs, patch,
                        panel);
}

extern "C" __global__ void __launch_bounds__(128)
    correlate_narrow(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                     const real* weight, int kh, int kw, int top, int left, int stride, real* y,
                     index y_image, index y_row, index y_pixel, int y_height, int y_width, int outputs, int spread,
                     int tile_rows, bool relu, bool packs) {
    alignas(16) __shared__ real patch[2 * DEPTH * PIXELS];
    alignas(16) __shared__ real panel[2 * DEPTH * LINE * PACK];
    correlate<1, true>({x, x_image, x_row, x_pixel, height, width, channels}, weight, {kh, kw, top, left, stride},
                       {y, y_image, y_row, y_pixel, y_height, y_width, outputs, spread}, tile_rows, relu, packs, patch,
                       panel);
}

extern "C" __global__ void __launch_bounds__(128)
    correlate_narrow_scalar(const real* x, index x_image, index x_row, index x_pixel, int height, int width,
                            int channels, const real* weight, int kh, int kw, int top, int left,
                            int stride, real* y, index y_image, index y_row, index y_pixel, int y_height, int y_width,
                            int outputs, int spread, int tile_rows, bool relu, bool packs) {
    alignas(16) __shared__ real patch[2 * DEPTH * PIXELS];
    alignas(16) __shared__ real panel[2 * DEPTH * LINE * PACK];
    correlate<1, false>({x, x_image, x_row, x_pixel, height, width, channels}, weight, {kh, kw, top, left, stride},
                        {y, y_image, y_row, y_pixel, y_height, y_width, outputs, spread}, tile_rows, relu, packs, patch,
                        panel);
}

// weight, of any strides (o_step, c_step, i_step, j_step) -> packed[tap * tap_step + c * c_row + o], tap = i * kw + j.
// Blocks of 32 o x 32 r, r = (c, i, j) as a weight lies in memory; both sides are read and written along their rows.
extern "C" __global__ void __launch_bounds__(256)
    pack_weight(const real* weight, index o_step, index c_step, index i_step, index j_step, int outputs, int channels,
                int kh, int kw, real* packed, index tap_step, index c_row) {
    __shared__ real square[WARP * (WARP + 1)];
    const int lane = threadIdx.x, first = threadIdx.y, taps = kh * kw, groups = parts_of(outputs, WARP);
    const int o0 = blockIdx.x % groups * WARP, r0 = blockIdx.x / groups * WARP;
    for (int k = first; k < WARP; k += 8) {
        const int o = o0 + k, r = r0 + lane, c = r / taps, i = r % taps / kw, j = r % taps % kw;
        if (o < outputs && c < channels)
            square[k * (WARP + 1) + lane] = weight[o * o_step + c * c_step + i * i_step + j * j_step];
    }
    __syncthreads();
    for (int k = first; k < WARP; k += 8) {
        const int o = o0 + lane, r = r0 + k, c = r / taps;
        if (o < outputs && c < channels) packed[r % taps * tap_step + c * c_row + o] = square[lane * (WARP + 1) + k];
    }
}

// ------------------------------------------------------------------------------------------------ correlate_weight

// Row r = (i, j, c) of the sum: where it lies in x, seen from a pixel of g, and the pixels of g for which that is
// inside of the picture.
struct Row {
    const real* at;
    int top, height, left, width;
};

// The outputs 0 <= h < count with 0 <= stride * h + shift < size: the first, and how many.
__device__ __forceinline__ void inside(int shift, int stride, int size, int count, int& first, int& number) {
    first = shift < 0 ? parts_of(-shift, stride) : 0;
    const int last = size > shift ? min(count, parts_of(size - shift, stride)) : 0;
    number = max(0, last - first);
}

__device__ __forceinline__ Row find_row(int r, const Picture& x, const Picture& g, const Window& window) {
    const int tap = r / x.channels, c = r % x.channels, i = tap / window.kw, j = tap % window.kw;
    Row row;
    row.at = x.at + ((i - window.top) * x.row + (j - window.left) * x.pixel + c);
    inside(i - window.top, window.stride, x.height, i < window.kh ? g.height : 0, row.top, row.height);
    inside(j - window.left, window.stride, x.width, g.width, row.left, row.width);
    return row;
}

// PACK rows of a pixel (h, w) of g, which lies `offset` numbers from the first pixel in x; zeros outside of it.
// VECTOR: they are neighbours in memory, and rows[0] is the first one's.
template <bool VECTOR>
__device__ __forceinline__ Pack gather(const Row* rows, int h, int w, index offset) {
    Pack found = zeros();
#pragma unroll
    for (int e = 0; e < (VECTOR ? 1 : PACK); ++e) {
        const bool in_row = unsigned(w - rows[e].left) < unsigned(rows[e].width);
        const bool known = in_row && unsigned(h - rows[e].top) < unsigned(rows[e].height);
        if (VECTOR && known) found = load_pack(rows[0].at + offset);
        if (!VECTOR && known) found.at[e] = rows[e].at[offset];
    }
    return found;
}

// PACK channels of a picture from `from` on; channels: how many there are.  aligned: a vector load may bring them.
__device__ __forceinline__ Pack channels_of(const real* from, int channels, bool aligned) {
    Pack found = zeros();
    if (aligned) {
        if (channels > 0) found = load_pack(from);
    } else {
#pragma unroll
        for (int e = 0; e < PACK; ++e)
            if (e < channels) found.at[e] = from[e];
    }
    return found;
}

// The sizes of a tile.  SLICES: how many groups of a block's warps sum the same outputs over different pixels, where
// there are few outputs.
template <int ROW_PACKS, int COLUMN_PACKS, int SLICES>
struct Shape {
    static constexpr int ROWS = THREADS / WARP / SLICES * 4 * ROW_PACKS * PACK, COLUMNS = LINE * COLUMN_PACKS * PACK;
    static constexpr int SIDE = SLICES == 1 ? 4 : 8;  // of the square of pixels that make a stage
    static constexpr int STAGE = SIDE * SIDE;
};

// The sums of a tile over one of `parts` equal parts of the pixels -> partial[part][r][o].
// xs, gs: two buffers each, of STAGE x ROWS and STAGE x COLUMNS numbers.  aligned: whether g takes vector loads.
template <int ROW_PACKS, int COLUMN_PACKS, int SLICES, bool VECTOR>
__device__ __forceinline__ void correlate_weight(const Picture& x, const Picture& g, int images, const Window& window,
                                                 int parts, bool aligned, real* xs, real* gs, real* partial) {
    using S = Shape<ROW_PACKS, COLUMN_PACKS, SLICES>;
    constexpr int ROWS = S::ROWS, COLUMNS = S::COLUMNS, SIDE = S::SIDE, STAGE = S::STAGE;
    constexpr int X_PACKS = ROWS / PACK, X_PIXELS = THREADS / X_PACKS, X_PASSES = STAGE / X_PIXELS;
    constexpr int G_PACKS = COLUMNS / PACK, G_PIXELS = THREADS / G_PACKS, G_PASSES = STAGE / G_PIXELS;
    const int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;

    // The block's tile, and its part of the stages.
    const int sum_rows = window.kh * window.kw * x.channels;
    const int groups = parts_of(g.channels, COLUMNS), panels = parts_of(sum_rows, ROWS);
    const int q0 = blockIdx.x % groups * COLUMNS, r0 = blockIdx.x / groups % panels * ROWS;
    const int part = blockIdx.x / groups / panels;
    const int across = parts_of(g.width, SIDE), down = parts_of(g.height, SIDE);
    const index stages = index(images) * down * across;
    const index first = part * stages / parts, last = (part + 1) * stages / parts;
    int w0 = int(first % across) * SIDE, h0 = int(first / across % down) * SIDE;
    index image = first / across / down;

    // What a thread reads: a pack of rows and a pack of columns, at some pixels of the square.
    const int x_pixel = thread / X_PACKS, x_pack = thread % X_PACKS;
    const int g_pixel = thread / G_PACKS, g_pack = thread % G_PACKS;
    Row rows[VECTOR ? 1 : PACK];
#pragma unroll
    for (int e = 0; e < (VECTOR ? 1 : PACK); ++e) rows[e] = find_row(r0 + x_pack * PACK + e, x, g, window);
    const int channels = g.channels - q0 - g_pack * PACK;
    const real* column = g.at + q0 + g_pack * PACK;
    const index x_row = window.stride * x.row, x_step = window.stride * x.pixel;

    // What it multiplies.
    const int slice = warp % SLICES, m0 = (warp / SLICES * 4 + lane_row(lane)) * PACK, o0 = lane_column(lane) * PACK;
    real sums[ROW_PACKS * PACK][COLUMN_PACKS * PACK] = {};

    for (index stage = first - 1; stage < last; ++stage) {  // the first one has nothing to multiply yet
        if (stage + 1 == last) h0 = g.height;               // and the last one nothing to read
        Pack x_read[X_PASSES], g_read[G_PASSES];
        const int xh = h0 + x_pixel / SIDE, xw = w0 + x_pixel % SIDE;
        const int gh = h0 + g_pixel / SIDE, gw = w0 + g_pixel % SIDE;
        const index x_at = image * x.image + xh * x_row + xw * x_step;
        const real* g_at = column + image * g.image + gh * g.row + gw * g.pixel;
#pragma unroll
        for (int p = 0; p < X_PASSES; ++p) {
            const int lower = p * X_PIXELS / SIDE;
            x_read[p] = gather<VECTOR>(rows, xh + lower, xw, x_at + lower * x_row);
        }
#pragma unroll
        for (int p = 0; p < G_PASSES; ++p) {
            const int lower = p * G_PIXELS / SIDE;
            const bool inside = gh + lower < g.height && gw < g.width;
            g_read[p] = channels_of(g_at + lower * g.row, inside ? channels : 0, VECTOR || aligned);
        }
        if (stage >= first) {
            const real* a = xs + ((stage & 1) * STAGE + slice * 16) * ROWS + m0;
            const real* b = gs + ((stage & 1) * STAGE + slice * 16) * COLUMNS + o0;
#pragma unroll 8
            for (int k = 0; k < 16; ++k)
                multiply<ROW_PACKS, COLUMN_PACKS>(a + k * ROWS, ROWS / ROW_PACKS, b + k * COLUMNS, LINE * PACK, sums);
        }
        real *next_x = xs + (~stage & 1) * STAGE * ROWS, *next_g = gs + (~stage & 1) * STAGE * COLUMNS;
#pragma unroll
        for (int p = 0; p < X_PASSES; ++p)
            store_pack(next_x + (p * X_PIXELS + x_pixel) * ROWS + x_pack * PACK, x_read[p]);
#pragma unroll
        for (int p = 0; p < G_PASSES; ++p)
            store_pack(next_g + (p * G_PIXELS + g_pixel) * COLUMNS + g_pack * PACK, g_read[p]);
        w0 += SIDE;
        if (w0 >= g.width) {
            w0 = 0;
            h0 += SIDE;
        }
        if (h0 >= g.height) {
            h0 = 0;
            ++image;
        }
        __syncthreads();
    }

    // All slices into shared memory, where they are added in their order.  Every other pack of rows is turned, so that
    // lanes which write different rows do not meet at a bank.
    partial += index(part) * sum_rows * g.channels;
    if (SLICES > 1) {
#pragma unroll
        for (int m = 0; m < ROW_PACKS * PACK; ++m)
#pragma unroll
            for (int p = 0; p < COLUMN_PACKS; ++p) {
                Pack pack;
#pragma unroll
                for (int e = 0; e < PACK; ++e) pack.at[e] = sums[m][p * PACK + e];
                const int row = m0 + m % PACK + m / PACK * (ROWS / ROW_PACKS);
                const int turn = row / PACK % 2 * (LINE / 2 * PACK);
                store_pack(gs + (slice * ROWS + row) * COLUMNS + ((o0 + p * LINE * PACK) ^ turn), pack);
            }
        __syncthreads();
        for (int at = thread; at < ROWS * COLUMNS; at += THREADS) {
            const int turn = at / COLUMNS / PACK % 2 * (LINE / 2 * PACK);
            const int r = r0 + at / COLUMNS, q = q0 + (at % COLUMNS ^ turn);
            real total = gs[at];
#pragma unroll
            for (int s = 1; s < SLICES; ++s) total += gs[s * ROWS * COLUMNS + at];
            if (r < sum_rows && q < g.channels) partial[index(r) * g.channels + q] = total;
        }
    } else {
#pragma unroll
        for (int m = 0; m < ROW_PACKS * PACK; ++m) {
            const int r = r0 + m0 + m % PACK + m / PACK * (ROWS / ROW_PACKS);
#pragma unroll
            for (int p = 0; p < COLUMN_PACKS; ++p) {
                const int q = q0 + o0 + p * LINE * PACK;
                if (r >= sum_rows || q >= g.channels) continue;
                real* to = partial + index(r) * g.channels + q;
                Pack pack;
#pragma unroll
                for (int e = 0; e < PACK; ++e) pack.at[e] = sums[m][p * PACK + e];
                if (VECTOR) {  // then the channels come in whole packs
                    store_pack(to, pack);
                } else {
#pragma unroll
                    for (int e = 0; e < PACK; ++e)
                        if (q + e < g.channels) to[e] = pack.at[e];
                }
            }
        }
    }
}

// The six kernels: tiles of 128 rows x 64 columns ("large"), 32 x 32 ("small") and 16 x 64 ("flat"; half of both sides
// in double), with vector loads of x and g or, for channels that are no multiple of PACK or do not lie so, single ones.
extern "C" __global__ void __launch_bounds__(128)
    weight_large(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                 const real* g, index g_image, index g_row, index g_pixel, int g_height, int g_width, int outputs,
                 int images, int kh, int kw, int top, int left, int stride, int parts, bool aligned, real* partial) {
    using S = Shape<2, 2, 1>;
    alignas(16) __shared__ real xs[2 * S::STAGE * S::ROWS];
    alignas(16) __shared__ real gs[2 * S::STAGE * S::COLUMNS];
    correlate_weight<2, 2, 1, true>({x, x_image, x_row, x_pixel, height, width, channels},
                                    {g, g_image, g_row, g_pixel, g_height, g_width, outputs}, images,
                                    {kh, kw, top, left, stride}, parts, aligned, xs, gs, partial);
}

extern "C" __global__ void __launch_bounds__(128)
    weight_large_scalar(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                        const real* g, index g_image, index g_row, index g_pixel, int g_height, int g_width,
                        int outputs, int images, int kh, int kw, int top, int left, int stride, int parts, bool aligned,
                        real* partial) {
    using S = Shape<2, 2, 1>;
    alignas(16) __shared__ real xs[2 * S::STAGE * S::ROWS];
    alignas(16) __shared__ real gs[2 * S::STAGE * S::COLUMNS];
    correlate_weight<2, 2, 1, false>({x, x_image, x_row, x_pixel, height, width, channels},
                                     {g, g_image, g_row, g_pixel, g_height, g_width, outputs}, images,
                                     {kh, kw, top, left, stride}, parts, aligned, xs, gs, partial);
}

extern "C" __global__ void __launch_bounds__(128)
    weight_small(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                 const real* g, index g_image, index g_row, index g_pixel, int g_height, int g_width, int outputs,
                 int images, int kh, int kw, int top, int left, int stride, int parts, bool aligned, real* partial) {
    using S = Shape<2, 1, 4>;
    alignas(16) __shared__ real xs[2 * S::STAGE * S::ROWS];
    alignas(16) __shared__ real gs[2 * S::STAGE * S::COLUMNS];
    correlate_weight<2, 1, 4, true>({x, x_image, x_row, x_pixel, height, width, channels},
                                    {g, g_image, g_row, g_pixel, g_height, g_width, outputs}, images,
                                    {kh, kw, top, left, stride}, parts, aligned, xs, gs, partial);
}

extern "C" __global__ void __launch_bounds__(128)
    weight_small_scalar(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                        const real* g, index g_image, index g_row, index g_pixel, int g_height, int g_width,
                        int outputs, int images, int kh, int kw, int top, int left, int stride, int parts, bool aligned,
                        real* partial) {
    using S = Shape<2, 1, 4>;
    alignas(16) __shared__ real xs[2 * S::STAGE * S::ROWS];
    alignas(16) __shared__ real gs[2 * S::STAGE * S::COLUMNS];
    correlate_weight<2, 1, 4, false>({x, x_image, x_row, x_pixel, height, width, channels},
                                     {g, g_image, g_row, g_pixel, g_height, g_width, outputs}, images,
                                     {kh, kw, top, left, stride}, parts, aligned, xs, gs, partial);
}

extern "C" __global__ void __launch_bounds__(128)
    weight_flat(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                const real* g, index g_image, index g_row, index g_pixel, int g_height, int g_width, int outputs,
                int images, int kh, int kw, int top, int left, int stride, int parts, bool aligned, real* partial) {
    using S = Shape<1, 2, 4>;
    alignas(16) __shared__ real xs[2 * S::STAGE * S::ROWS];
    alignas(16) __shared__ real gs[2 * S::STAGE * S::COLUMNS];
    correlate_weight<1, 2, 4, true>({x, x_image, x_row, x_pixel, height, width, channels},
                                    {g, g_image, g_row, g_pixel, g_height, g_width, outputs}, images,
                                    {kh, kw, top, left, stride}, parts, aligned, xs, gs, partial);
}

extern "C" __global__ void __launch_bounds__(128)
    weight_flat_scalar(const real* x, index x_image, index x_row, index x_pixel, int height, int width, int channels,
                       const real* g, index g_image, index g_row, index g_pixel, int g_height, int g_width,
                       int outputs, int images, int kh, int kw, int top, int left, int stride, int parts, bool aligned,
                       real* partial) {
    using S = Shape<1, 2, 4>;
    alignas(16) __shared__ real xs[2 * S::STAGE * S::ROWS];
    alignas(16) __shared__ real gs[2 * S::STAGE * S::COLUMNS];
    correlate_weight<1, 2, 4, false>({x, x_image, x_row, x_pixel, height, width, channels},
                                     {g, g_image, g_row, g_pixel, g_height, g_width, outputs}, images,
                                     {kh, kw, top, left, stride}, parts, aligned, xs, gs, partial);
}

// partial[part][(tap, c)][o], added up in the order of parts -> dw[o, c, i, j], of any strides.
// Blocks of 32 o x 8 r, r = (c, tap) as dw lies in memory.
extern "C" __global__ void __launch_bounds__(256)
    sum_parts(const real* partial, int parts, int outputs, int channels, int kh, int kw, real* dw, index o_step,
              index c_step, index i_step, index j_step) {
    __shared__ real totals[SUM_ROWS * WARP];
    const int taps = kh * kw, groups = parts_of(outputs, WARP);
    const int o0 = blockIdx.x % groups * WARP, r0 = blockIdx.x / groups * SUM_ROWS;
    const int lane = threadIdx.x, row = threadIdx.y, o = o0 + lane, c = (r0 + row) / taps, tap = (r0 + row) % taps;
    real total = 0;
    if (o < outputs && c < channels) {
        const real* from = partial + (index(tap) * channels + c) * outputs + o;
        const index step = index(taps) * channels * outputs;
#pragma unroll 16
        for (int part = 0; part < parts; ++part) total += from[part * step];
    }
    totals[row * WARP + (lane ^ row * PACK)] = total;  // written along the lanes, read along both: turned, see above
    __syncthreads();
    const int thread = row * WARP + lane, to_o = thread / SUM_ROWS, to_r = thread % SUM_ROWS;
    const int to_c = (r0 + to_r) / taps, i = (r0 + to_r) % taps / kw, j = (r0 + to_r) % taps % kw;
    if (o0 + to_o < outputs && to_c < channels)
        dw[(o0 + to_o) * o_step + to_c * c_step + i * i_step + j * j_step] = totals[to_r * WARP + (to_o ^ to_r * PACK)];
}
