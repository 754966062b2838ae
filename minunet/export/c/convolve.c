#define UNET_LANES 8
#define UNET_PIXELS 4

/* UNET_LANES output channels, of which `channels` are stored, of UNET_PIXELS pixels from column x on: the sums over the
   window and over the channels of the sources.

   The windows lie in the middle of a source: around it are zeros where the output is as large ("same"), and of a larger
   skip the margin is left out ("valid").  A row of the window is one run of kernel * channels numbers; at the border
   each of its columns is a run of its own, since some are zeros.

   Weights lie in the order in which they are used: the bias, then for each source, each place of the window and each
   channel those of the lanes. */
static void unet_tile(float *arena, const unet_layer *l, int32_t row, int32_t x, const float *w, float *to,
                      int32_t channels)
{
    float sum[UNET_PIXELS][UNET_LANES];
    const float *from[UNET_PIXELS];
    const int32_t up = l->kind == UNET_UP, kernel = l->kernel, lanes = l->lanes, columns = l->width >> up;
    int32_t s, i, j, k, p, q, run;
    for (p = 0; p < UNET_PIXELS; p++)
        for (q = 0; q < UNET_LANES; q++)
            sum[p][q] = w[q];
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
                for (p = 0; p < UNET_PIXELS; p++)
                    from[p] = (uint32_t)(j + p) < (uint32_t)width
                            ? unet_row(arena, source, i) + (j + p) * depth : unet_zeros;
                for (k = 0; k < run * depth; k++, w += lanes)
                    for (p = 0; p < UNET_PIXELS; p++)
                        for (q = 0; q < UNET_LANES; q++)
                            sum[p][q] += from[p][k] * w[q];
            }
        }
    }
    for (p = 0; p < UNET_PIXELS && x + p < columns; p++, to += l->channels << up)
        for (q = 0; q < channels && q < UNET_LANES; q++)
            to[q] = l->relu && sum[p][q] < 0 ? 0 : sum[p][q];
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

