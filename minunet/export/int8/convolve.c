/* ---- sums of products: 8 output channels of a pixel ---- */

#define UNET_LANES 8
#if defined(__OPTIMIZE_SIZE__) || !defined(__GNUC__)
#define UNET_UNROLL
#elif defined(__clang__)
#define UNET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNET_UNROLL _Pragma("GCC unroll 8")
#endif
#ifdef __GNUC__
#define UNET_ALONE static __attribute__((noinline))
#else
#define UNET_ALONE static
#endif

/* The byte of a sum, half up.  What is negative is clamped before the shift. */
static uint8_t unet_narrowed(int32_t sum, const unet_channel *channel, int32_t zero)
{
    const int64_t wide = (int64_t)sum * channel->multiplier + ((int64_t)(2 * zero + 1) << (31 + channel->shift));
    const uint32_t byte = wide < 0 ? 0 : (uint32_t)(wide >> 32) >> channel->shift;
    return (uint8_t)(byte < 255 ? byte : 255);
}

static void unet_store(uint8_t *to, int32_t sum)
{
    uint32_t bits = (uint32_t)sum;
    int32_t i;
    for (i = 0; i < 4; i++, bits >>= 8)
        to[i] = (uint8_t)bits;
}

/* The products of a run of bytes.  Alone in a function, so that the sums are what is kept in registers. */
UNET_ALONE void unet_add(int32_t *sums, const uint8_t *from, const int8_t *w, int32_t count)
{
    int32_t kept[UNET_LANES], k, q;
    UNET_UNROLL
    for (q = 0; q < UNET_LANES; q++)
        kept[q] = sums[q];
    for (k = 0; k < count; k++, w += UNET_LANES)
        UNET_UNROLL
        for (q = 0; q < UNET_LANES; q++)
            kept[q] += from[k] * w[q];
    UNET_UNROLL
    for (q = 0; q < UNET_LANES; q++)
        sums[q] = kept[q];
}

/* The windows lie in the middle of a source: around it is the value 0 where the output is as large ("same"), and of a
   larger skip the margin is left out ("valid").  A row of the window is one run of kernel * channels bytes; at the
   border each of its columns is a run of its own, since some are outside.

   Weights lie in the order in which they are used: for each source, each place of the window and each channel those of
   8 output channels. */
static void unet_sum(uint8_t *arena, const unet_layer *l, int32_t row, int32_t x, const int8_t *w, int32_t *sums)
{
    const int32_t up = l->kind == UNET_UP, kernel = l->kernel;
    int32_t s, i, j;
    for (s = 0; s <= (l->also != 0); s++) {
        const unet_layer *source = unet_layers + (s ? l->also : l->from);
        const int32_t depth = source->channels, height = source->height, width = source->width;
        const int32_t top = up ? row >> 1 : row + (height - l->height - kernel + 1) / 2;
        const int32_t left = up ? x : x + (width - l->width - kernel + 1) / 2;
        for (i = top; i < top + kernel; i++) {
            const int inside = i >= 0 && i < height;
            const uint8_t *start = inside ? unet_row(arena, source, i) : arena;
            const int32_t run = inside && left >= 0 && left + kernel <= width ? kernel : 1;
            for (j = left; j < left + kernel; j += run, w += run * depth * UNET_LANES)
                unet_add(sums, inside && j >= 0 && j < width ? start + j * depth : unet_border[source->zero >> 7], w,
                         run * depth);
        }
    }
}

/* An up-convolution makes its row of pairs of pixels, each from one pixel: first all left ones, then all right ones. */
static void unet_convolve(uint8_t *arena, const unet_layer *l, int32_t row)
{
    const int32_t up = l->kind == UNET_UP, step = (l->channels << up) * l->bytes;
    const int8_t *w = unet_weights + l->weights + (up && row & 1 ? l->odd : 0);
    int32_t sums[UNET_LANES], half, c, x, q;
    for (half = 0; half <= up; half++)
        for (c = 0; c < l->channels; c += UNET_LANES, w += l->block) {
            const unet_channel *channel = unet_channels + l->first + c;
            uint8_t *to = unet_row(arena, l, row) + (half * l->channels + c) * l->bytes;
            for (x = 0; x < l->width >> up; x++, to += step) {
                for (q = 0; q < UNET_LANES; q++)
                    sums[q] = channel[q].bias;
                unet_sum(arena, l, row, x, w, sums);
                for (q = 0; q < UNET_LANES && c + q < l->channels; q++)
                    if (l->bytes == 1)
                        to[q] = unet_narrowed(sums[q], channel + q, l->zero);
                    else
                        unet_store(to + 4 * q, sums[q]);
            }
        }
}
