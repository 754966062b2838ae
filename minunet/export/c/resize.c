/* Output position i of `to` lies among `from` positions at (i + 1/2) from / to - 1/2, or of a layer that doubles, where
   the outer positions lie on each other, at i (from - 1) / (to - 1): between `low` and `high`, by the fraction
   returned. */
static float unet_between(const unet_layer *l, int32_t i, int32_t from, int32_t to, int32_t *low, int32_t *high)
{
    const int32_t corners = l->kind == UNET_DOUBLE, parts = corners ? to - 1 : 2 * to;
    const int32_t place = corners ? i * (from - 1) : (2 * i + 1) * from - to;
    *low = place > 0 ? place / parts : 0;
    *high = *low;
    if (place <= 0 || place % parts == 0 || *low == from - 1)
        return 0;
    *high += 1;
    if (corners)
        return (float)i * ((float)(from - 1) / (float)(to - 1)) - (float)*low;
    return ((float)i + 0.5f) * ((float)from / (float)to) - 0.5f - (float)*low;
}

/* Bilinear, to the size of a skip of odd height or width, or to twice the size. */
static void unet_resize(float *arena, const unet_layer *l, int32_t row)
{
    const unet_layer *source = unet_layers + l->from;
    const int32_t channels = l->channels;
    int32_t x, c, above, below, left, right;
    const float down = unet_between(l, row, source->height, l->height, &above, &below);
    const float *upper = unet_row(arena, source, above), *lower = unet_row(arena, source, below);
    float *to = unet_row(arena, l, row);
    for (x = 0; x < l->width; x++) {
        const float aside = unet_between(l, x, source->width, l->width, &left, &right);
        const float *a = upper + left * channels, *b = upper + right * channels;
        const float *d = lower + left * channels, *e = lower + right * channels;
        for (c = 0; c < channels; c++)
            *to++ = (1 - down) * ((1 - aside) * a[c] + aside * b[c]) + down * ((1 - aside) * d[c] + aside * e[c]);
    }
}

