/* ---- sums of products: 4 output channels for some neighbouring pixels ---- */

#define UNET_LANES 4
#define UNET_PIXELS 2
#if defined(__OPTIMIZE_SIZE__) || !defined(__GNUC__)
#define UNET_UNROLL
#elif defined(__clang__)
#define UNET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNET_UNROLL _Pragma("GCC unroll 8")
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

/* The windows lie in the middle of a source: around it is the value 0 where the output is as large ("same"), and of a
   larger skip the margin is left out ("valid").  A row of the window is one run of kernel * channels bytes; at the
   border each of its columns is a run of its own, since some are outside.

   Weights lie in the order in which they are used: for each source, each place of the window and each channel those of
   4 output channels. */
static void unet_tile(uint8_t *arena, const unet_layer *l, int32_t row, int32_t x, const int8_t *w,
                      const unet_channel *channel, uint8_t *to, int32_t channels)
{
    int32_t sums[UNET_PIXELS][UNET_LANES];
    const uint8_t *from[UNET_PIXELS];
    const int32_t up = l->kind == UNET_UP, kernel = l->kernel;
    const int32_t step = (l->channels << up) * l->bytes, count = (l->width >> up) - x;
    int32_t s, i, j, k, p, q;
    UNET_UNROLL
    for (p = 0; p < UNET_PIXELS; p++)
        UNET_UNROLL
        for (q = 0; q < UNET_LANES; q++)
            sums[p][q] = channel[q].bias;
    for (s = 0; s <= (l->also != 0); s++) {
        const unet_layer *source = unet_layers + (s ? l->also : l->from);
        const int32_t depth = source->channels, width = source->width;
        const int32_t top = up ? row >> 1 : row + (source->height - l->height - kernel + 1) / 2;
        const int32_t left = up ? x : x + (width - l->width - kernel + 1) / 2;
        for (i = top; i < top + kernel; i++) {
            const int inside = i >= 0 && i < source->height;
            const int32_t run = inside && left >= 0 && left + UNET_PIXELS + kernel - 1 <= width ? kernel : 1;
            const uint8_t *start = inside ? unet_row(arena, source, i) : arena;
            for (j = left; j < left + kernel; j += run) {
                for (p = 0; p < UNET_PIXELS; p++)
                    from[p] = inside && (uint32_t)(j + p) < (uint32_t)width ? start + (j + p) * depth
                                                                            : unet_border[source->zero >> 7];
                for (k = 0; k < run * depth; k++, w += UNET_LANES)
                    UNET_UNROLL
                    for (p = 0; p < UNET_PIXELS; p++)
                        UNET_UNROLL
                        for (q = 0; q < UNET_LANES; q++)
                            sums[p][q] += from[p][k] * w[q];
            }
        }
    }
    UNET_UNROLL
    for (p = 0; p < UNET_PIXELS; p++, to += step)
        UNET_UNROLL
        for (q = 0; q < UNET_LANES; q++)
            if (p < count && q < channels) {
                if (l->bytes == 1)
                    to[q] = unet_narrowed(sums[p][q], channel + q, l->zero);
                else
                    unet_store(to + 4 * q, sums[p][q]);
            }
}

/* An up-convolution makes its row of pairs of pixels, each from one pixel: first all left ones, then all right ones. */
static void unet_convolve(uint8_t *arena, const unet_layer *l, int32_t row)
{
    const int32_t up = l->kind == UNET_UP;
    const int8_t *w = unet_weights + l->weights + (up && row & 1 ? l->odd : 0);
    int32_t half, c, x;
    for (half = 0; half <= up; half++)
        for (c = 0; c < l->channels; c += UNET_LANES, w += l->block) {
            uint8_t *to = unet_row(arena, l, row) + (half * l->channels + c) * l->bytes;
            for (x = 0; x < l->width >> up; x += UNET_PIXELS)
                unet_tile(arena, l, row, x, w, unet_channels + l->first + c,
                          to + x * (l->channels << up) * l->bytes, l->channels - c);
        }
}
