#ifdef UNET_SIMD
#define UNET_PIXELS 8
typedef float unet_lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t unet_masks __attribute__((vector_size(32)));
#define UNET_RELU(v) (unet_lanes)((unet_masks)(v) & ((v) > 0))
#elif defined(__clang__)
#define UNET_PIXELS 2
#else
#define UNET_PIXELS 8
#endif
#ifdef __OPTIMIZE_SIZE__
#define UNET_UNROLL
#define UNET_UNROLL_PIXELS
#elif defined(__clang__)
#define UNET_UNROLL _Pragma("clang loop unroll(full)")
#define UNET_UNROLL_PIXELS _Pragma("clang loop unroll(full)")
#else
#define UNET_UNROLL _Pragma("GCC unroll 8")
#define UNET_UNROLL_PIXELS
#endif
#define UNET_LANES 8

static void unet_tile(float *arena, const unet_layer *l, int32_t row, int32_t x, const float *w, float *to,
                      int32_t channels)
{
#ifdef UNET_SIMD
    unet_lanes sum[UNET_PIXELS];
#else
    float sum[UNET_PIXELS][UNET_LANES];
#endif
    const float *from[UNET_PIXELS];
    const int32_t up = l->kind == UNET_UP, kernel = l->kernel, lanes = l->lanes, columns = l->width >> up;
    int32_t s, i, j, k, p, q, run;
    UNET_UNROLL_PIXELS
    for (p = 0; p < UNET_PIXELS; p++)
#ifdef UNET_SIMD
        sum[p] = *(const unet_lanes *)w;
#else
        UNET_UNROLL
        for (q = 0; q < UNET_LANES; q++)
            sum[p][q] = w[q];
#endif
    w += lanes;
    for (s = 0; s <= (l->also != 0); s++) {
        const unet_layer *source = unet_layers + (s ? l->also : l->from);
        const int32_t depth = source->channels, width = source->width;
        const int32_t top = up ? row >> 1 : row + (source->height - l->height - kernel + 1) / 2;
        const int32_t left = up ? x : x + (width - l->width - kernel + 1) / 2;
        run = left >= 0 && left + UNET_PIXELS + kernel - 1 <= width ? kernel : 1;
        for (i = top; i < top + kernel; i++) {
            if ((uint32_t)i >= source->height) {
                w += kernel * depth * lanes;
                continue;
            }
            for (j = left; j < left + kernel; j += run) {
                const float *pixels = unet_row(arena, source, i);
                for (p = 0; p < UNET_PIXELS; p++)
                    from[p] = (uint32_t)(j + p) < (uint32_t)width ? pixels + (j + p) * depth : unet_zeros;
                k = 0;
#ifdef UNET_SIMD
                for (; k < run * depth; k++, w += lanes) {
#pragma GCC unroll 8
                    for (p = 0; p < UNET_PIXELS; p++)
                        sum[p] += from[p][k] * *(const unet_lanes *)w;
                }
#else
                for (; k + 4 <= run * depth; k += 4, w += 4 * lanes) {
                    const float *w1 = w + lanes, *w2 = w + 2 * lanes, *w3 = w + 3 * lanes;
                    UNET_UNROLL_PIXELS
                    for (p = 0; p < UNET_PIXELS; p++) {
                        const float *f = from[p] + k;
                        const float x0 = f[0], x1 = f[1], x2 = f[2], x3 = f[3];
                        UNET_UNROLL
                        for (q = 0; q < UNET_LANES; q++) {
                            float t = sum[p][q];
                            t += x0 * w[q];
                            t += x1 * w1[q];
                            t += x2 * w2[q];
                            t += x3 * w3[q];
                            sum[p][q] = t;
                        }
                    }
                }
                for (; k < run * depth; k++, w += lanes)
                    UNET_UNROLL_PIXELS
                    for (p = 0; p < UNET_PIXELS; p++)
                        UNET_UNROLL
                        for (q = 0; q < UNET_LANES; q++)
                            sum[p][q] += from[p][k] * w[q];
#endif
            }
        }
    }
#ifdef UNET_SIMD
    if (l->relu)
        for (p = 0; p < UNET_PIXELS; p++)
            sum[p] = UNET_RELU(sum[p]);
#pragma GCC unroll 8
    for (p = 0; p < UNET_PIXELS; p++, to += l->channels << up)
        if (x + p < columns) {
            unet_lanes s = sum[p];
            if (channels >= UNET_LANES)
                *(unet_lanes *)to = s;
            else
                for (q = 0; q < channels; q++)
                    to[q] = s[q];
        }
#else
    UNET_UNROLL_PIXELS
    for (p = 0; p < UNET_PIXELS; p++, to += l->channels << up)
        UNET_UNROLL
        for (q = 0; q < UNET_LANES; q++)
            if (x + p < columns && q < channels)
                to[q] = l->relu && sum[p][q] < 0 ? 0 : sum[p][q];
#endif
}

/* An up-convolution makes its row of pairs of pixels, each from one pixel: first all left ones, then all right ones. */
static void unet_convolve(float *arena, const unet_layer *l, int32_t row)
{
    const int32_t up = l->kind == UNET_UP, lanes = l->lanes, step = UNET_PIXELS * (l->channels << up);
    const float *w = unet_weights + l->weights + (up && row & 1 ? l->odd : 0);
    int32_t half, c, q, x;
    for (half = 0; half <= up; half++)
        for (c = 0; c < l->channels; c += lanes, w += l->block)
            for (q = 0; q < lanes; q += UNET_LANES) {
                float *to = unet_row(arena, l, row) + half * l->channels + c + q;
                for (x = 0; x < l->width >> up; x += UNET_PIXELS, to += step)
                    unet_tile(arena, l, row, x, w + q, to, l->channels - c - q);
            }
}

