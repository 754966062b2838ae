/* Output position i of `to` lies among `from` positions at (i + 1/2) from / to - 1/2, or of a layer that doubles, where
   the outer positions lie on each other, at i (from - 1) / (to - 1): between `low` and `high`, by the weight of the
   second in 1/256, which is returned. */
static int32_t unet_between(const unet_layer *l, int32_t i, int32_t from, int32_t to, int32_t *low, int32_t *high)
{
    const int32_t corners = l->kind == UNET_DOUBLE, parts = corners ? to - 1 : 2 * to;
    const int32_t place = corners ? i * (from - 1) : (2 * i + 1) * from - to;
    *low = place > 0 ? place / parts : 0;
    *high = *low;
    if (place <= 0 || place % parts == 0 || *low == from - 1)
        return 0;
    *high += 1;
    return (place % parts * 512 + parts) / (2 * parts);
}

/* Bilinear, to the size of a skip of odd height or width, or to twice the size. */
static void unet_resize(uint8_t *arena, const unet_layer *l, int32_t row)
{
    const unet_layer *source = unet_layers + l->from;
    const int32_t channels = l->channels;
    int32_t x, c, above, below, left, right;
    const int32_t down = unet_between(l, row, source->height, l->height, &above, &below);
    const uint8_t *upper = unet_row(arena, source, above), *lower = unet_row(arena, source, below);
    uint8_t *to = unet_row(arena, l, row);
    for (x = 0; x < l->width; x++) {
        const int32_t aside = unet_between(l, x, source->width, l->width, &left, &right);
        const uint8_t *a = upper + left * channels, *b = upper + right * channels;
        const uint8_t *d = lower + left * channels, *e = lower + right * channels;
        for (c = 0; c < channels; c++)
            *to++ = (uint8_t)(((256 - down) * ((256 - aside) * a[c] + aside * b[c])
                               + down * ((256 - aside) * d[c] + aside * e[c]) + 32768) >> 16);
    }
}
