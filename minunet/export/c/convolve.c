/* Some output channels, those of 8 or 16 lanes, for some pixels of a row from column x on: the sums over the window and
   over the channels of the sources.

   The windows lie in the middle of a source: around it are zeros where the output is as large ("same") or larger by a
   row or column at the end (of a source that is padded to its skip), and of a larger skip the margin is left out
   ("valid").  A row of the window is one run of kernel * channels numbers; at the border
   each of its columns is a run of its own, since some are zeros.

   Weights lie in the order in which they are used: the bias, then for each source, each place of the window and each
   channel those of the lanes. */
UNET_INLINE void unet_tile(float *arena, const unet_layer *l, int32_t row, int32_t x, const float *w, float *to,
                           int32_t channels, int32_t pixels, int32_t lanes)
{
    unet_sums sums;
    const float *from[UNET_PIXELS];
    const int32_t up = l->kind == UNET_UP, kernel = l->kernel;
    int32_t s, i, j, p, run;
    unet_begin(sums, w, pixels, lanes);
    w += l->lanes;
    for (s = 0; s <= (l->also != 0); s++) {
        const unet_layer *source = unet_layers + (s ? l->also : l->from);
        const int32_t depth = source->channels, width = source->width;
        const int32_t top = up ? row >> 1 : row + (source->height - l->height - kernel + 1) / 2;
        const int32_t left = up ? x : x + (width - l->width - kernel + 1) / 2;
        run = left >= 0 && left + pixels + kernel - 1 <= width ? kernel : 1;
        for (i = top; i < top + kernel; i++) {
            if (i < 0 || i >= source->height) {
                w += kernel * depth * l->lanes;
                continue;
            }
            for (j = left; j < left + kernel; j += run, w += run * depth * l->lanes) {
                const float *start = unet_row(arena, source, i);
                for (p = 0; p < pixels; p++)
                    from[p] = (uint32_t)(j + p) < (uint32_t)width ? start + (j + p) * depth : unet_zeros;
                unet_add(sums, from, w, run * depth, pixels, lanes, l->lanes);
            }
        }
    }
    unet_end(sums, l, to, l->channels << up, (l->width >> up) - x, channels, pixels, lanes);
}

/* An up-convolution makes its row of pairs of pixels, each from one pixel: first all left ones, then all right ones. */
static void unet_convolve(float *arena, const unet_layer *l, int32_t row)
{
    const int32_t up = l->kind == UNET_UP, pixel = l->channels << up;
    const float *w = unet_weights + l->weights + (up && row & 1 ? l->odd : 0);
    int32_t half, c, x;
    for (half = 0; half <= up; half++)
        for (c = 0; c < l->channels; c += l->lanes, w += l->block) {
            float *to = unet_row(arena, l, row) + half * l->channels + c;
            const int32_t channels = l->channels - c, columns = l->width >> up;
#ifdef UNET_SIMD
            if (l->lanes == 16)
                for (x = 0; x < columns; x += UNET_PIXELS_OF_16)
                    unet_tile(arena, l, row, x, w, to + x * pixel, channels, UNET_PIXELS_OF_16, 16);
            else
                for (x = 0; x < columns; x += UNET_PIXELS)
                    unet_tile(arena, l, row, x, w, to + x * pixel, channels, UNET_PIXELS, 8);
#else
            int32_t q;
            for (q = 0; q < l->lanes; q += 8)
                for (x = 0; x < columns; x += UNET_PIXELS)
                    unet_tile(arena, l, row, x, w + q, to + x * pixel + q, channels - q, UNET_PIXELS, 8);
#endif
        }
}

