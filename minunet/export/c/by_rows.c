/* ---- the order: group after group, and within a group always the last layer whose next row can be computed ---- */

/* The rows of a source that must be there for a row of the layer. */
static int32_t unet_needs(const unet_layer *l, const unet_layer *source, int32_t row)
{
    int32_t rows = row + 1;
    if (l->kind == UNET_POOL)
        rows = 2 * rows;
    else if (l->kind == UNET_UP)
        rows = (row >> 1) + 1;
    else if (l->kind == UNET_CONV)
        rows = row + (source->height - l->height - l->kernel + 1) / 2 + l->kernel;
#ifdef UNET_RESIZE
    else if (l->kind == UNET_RESIZE || l->kind == UNET_DOUBLE) {
        int32_t low;
        unet_between(l, row, source->height, l->height, &low, &rows);
        rows++;
    }
#endif
    return rows < source->height ? rows : source->height;
}

static int unet_ready(int32_t i, int32_t first, const uint16_t *done)
{
    const unet_layer *l = unet_layers + i;
    return done[i] < l->height
        && (l->from < first || i == first || unet_needs(l, unet_layers + l->from, done[i]) <= done[l->from])
        && (l->also < first || !l->also || unet_needs(l, unet_layers + l->also, done[i]) <= done[l->also]);
}

static void unet_run(unet_call *call)
{
    static const uint8_t ends[] = {UNET_ENDS};
    uint16_t done[UNET_LAYERS];
    int32_t first = 0, i;
    uint32_t g;
    for (i = 0; i < UNET_LAYERS; i++)
        done[i] = 0;
    for (g = 0; g < sizeof ends; first = ends[g++])
        while (done[ends[g] - 1] < unet_layers[ends[g] - 1].height) {
            for (i = ends[g] - 1; !unet_ready(i, first, done); i--) {
            }
            unet_compute(call, unet_layers + i, done[i]++);
        }
}

