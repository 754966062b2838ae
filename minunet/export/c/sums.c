/* ---- sums of products: for some neighbouring pixels ("from" is where each reads) and 8 or 16 output channels ---- */

#ifdef UNET_SIMD
/* Vectors, kept in registers: so many pixels that the registers are filled, but not more. */
#if defined(__AVX512F__)
#define UNET_VECTOR 8
#define UNET_PIXELS 8
#define UNET_PIXELS_OF_16 8
#elif defined(__AVX__)
#define UNET_VECTOR 8
#define UNET_PIXELS 8
#define UNET_PIXELS_OF_16 4
#else
#define UNET_VECTOR 4
#define UNET_PIXELS 4
#define UNET_PIXELS_OF_16 2
#endif
#ifdef __clang__
#define UNET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNET_UNROLL _Pragma("GCC unroll 8")
#endif
#define UNET_INLINE static inline __attribute__((always_inline))
typedef float unet_vector __attribute__((vector_size(4 * UNET_VECTOR), aligned(4), may_alias));
typedef int32_t unet_mask __attribute__((vector_size(4 * UNET_VECTOR)));
typedef unet_vector unet_sums[UNET_PIXELS][16 / UNET_VECTOR];

UNET_INLINE void unet_begin(unet_sums sums, const float *bias, int32_t pixels, int32_t lanes)
{
    const unet_vector *v = (const unet_vector *)bias;
    int32_t p, q;
    UNET_UNROLL
    for (p = 0; p < pixels; p++)
        UNET_UNROLL
        for (q = 0; q < lanes / UNET_VECTOR; q++)
            sums[p][q] = v[q];
}

UNET_INLINE void unet_add(unet_sums sums, const float *const *from, const float *w, int32_t count, int32_t pixels,
                          int32_t lanes, int32_t stride)
{
    int32_t k, p, q;
    for (k = 0; k < count; k++, w += stride) {
        const unet_vector *v = (const unet_vector *)w;
        UNET_UNROLL
        for (p = 0; p < pixels; p++)
            UNET_UNROLL
            for (q = 0; q < lanes / UNET_VECTOR; q++)
                sums[p][q] += from[p][k] * v[q];
    }
}

UNET_INLINE void unet_end(unet_sums sums, const unet_layer *l, float *to, int32_t step, int32_t count,
                          int32_t channels, int32_t pixels, int32_t lanes)
{
    int32_t c, p, q;
    UNET_UNROLL
    for (p = 0; p < pixels; p++, to += step)
        if (p < count)
            UNET_UNROLL
            for (q = 0; q < lanes / UNET_VECTOR; q++) {
                unet_vector sum = sums[p][q];
                if (l->relu)
                    sum = (unet_vector)((unet_mask)sum & (sum > 0));
                if (channels >= (q + 1) * UNET_VECTOR)
                    *(unet_vector *)(to + q * UNET_VECTOR) = sum;
                else
                    for (c = 0; c < channels - q * UNET_VECTOR; c++)
                        to[q * UNET_VECTOR + c] = sum[c];
            }
}
#else
/* Plain C.  GCC makes vectors of the innermost loops as they stand, and keeps the sums in the cache; four products at a
   time then save three of four ways there and back.  Clang unrolls, and keeps the sums in registers, if they are few. */
#ifdef __clang__
#define UNET_PIXELS 2
#define UNET_UNROLL_PIXELS _Pragma("clang loop unroll(full)")
#define UNET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNET_PIXELS 8
#define UNET_UNROLL_PIXELS
#define UNET_UNROLL _Pragma("GCC unroll 8")
#endif
#if defined(__OPTIMIZE_SIZE__) || !defined(__GNUC__)
#undef UNET_UNROLL
#undef UNET_UNROLL_PIXELS
#define UNET_UNROLL
#define UNET_UNROLL_PIXELS
#endif
#define UNET_INLINE static
typedef float unet_sums[UNET_PIXELS][8];

UNET_INLINE void unet_begin(unet_sums sums, const float *bias, int32_t pixels, int32_t lanes)
{
    int32_t p, q;
    UNET_UNROLL_PIXELS
    for (p = 0; p < pixels; p++)
        UNET_UNROLL
        for (q = 0; q < lanes; q++)
            sums[p][q] = bias[q];
}

UNET_INLINE void unet_add(unet_sums sums, const float *const *from, const float *w, int32_t count, int32_t pixels,
                          int32_t lanes, int32_t stride)
{
    int32_t k, p, q;
#ifndef __OPTIMIZE_SIZE__
    for (k = 0; k + 4 <= count; k += 4, w += 4 * stride) {
        const float *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
        UNET_UNROLL_PIXELS
        for (p = 0; p < pixels; p++) {
            const float x = from[p][k], x1 = from[p][k + 1], x2 = from[p][k + 2], x3 = from[p][k + 3];
            UNET_UNROLL
            for (q = 0; q < lanes; q++) {
                float sum = sums[p][q] + x * w[q];
                sum += x1 * w1[q];
                sum += x2 * w2[q];
                sums[p][q] = sum + x3 * w3[q];
            }
        }
    }
#else
    k = 0;
#endif
    for (; k < count; k++, w += stride)
        UNET_UNROLL_PIXELS
        for (p = 0; p < pixels; p++)
            UNET_UNROLL
            for (q = 0; q < lanes; q++)
                sums[p][q] += from[p][k] * w[q];
}

UNET_INLINE void unet_end(unet_sums sums, const unet_layer *l, float *to, int32_t step, int32_t count,
                          int32_t channels, int32_t pixels, int32_t lanes)
{
    int32_t p, q;
    UNET_UNROLL_PIXELS
    for (p = 0; p < pixels; p++, to += step)
        UNET_UNROLL
        for (q = 0; q < lanes; q++)
            if (p < count && q < channels)
                to[q] = l->relu && sums[p][q] < 0 ? 0 : sums[p][q];
}
#endif
