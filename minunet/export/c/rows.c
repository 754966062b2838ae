/* ---- one row of each kind of layer ---- */

/* What a call is about: float in and out, or an image and its classes; x = (byte * count - sum) * factor. */
typedef struct {
    const float *in;
    const uint8_t *image;
    int32_t count, sum;
    float factor;
    float *out;
    uint8_t *classes;
    float *arena;
} unet_call;

static float *unet_row(float *arena, const unet_layer *l, int32_t row)
{
    return arena + l->start + (uint32_t)(row % l->rows) * l->stride;
}

/* The caller's numbers or bytes to a row of pixels. */
static void unet_read(const unet_call *call, const unet_layer *l, int32_t row)
{
    float *to = unet_row(call->arena, l, row);
    int32_t x, c;
    for (x = 0; x < l->width; x++)
        for (c = 0; c < l->channels; c++) {
            if (call->in)
                *to++ = call->in[((uint32_t)c * UNET_IN_H + (uint32_t)row) * UNET_IN_W + (uint32_t)x];
            else
                *to++ = (float)(call->image[((uint32_t)row * UNET_IN_W + (uint32_t)x) * UNET_IN_C + (uint32_t)c]
                                * call->count - call->sum) * call->factor;
        }
}

/* A row of logits to the caller: as they are, or as the class of the largest (of one logit: whether it is above 0). */
static void unet_write(const unet_call *call, const unet_layer *l, int32_t row)
{
    const float *from = unet_row(call->arena, unet_layers + l->from, row);
    int32_t x, c, best;
    for (x = 0; x < l->width; x++, from += l->channels) {
        uint32_t pixel = (uint32_t)row * UNET_OUT_W + (uint32_t)x;
        best = l->channels == 1 && from[0] > 0;
        for (c = 0; c < l->channels; c++) {
            if (call->out)
                call->out[(uint32_t)c * UNET_OUT_H * UNET_OUT_W + pixel] = from[c];
            else if (c > 0 && from[c] > from[best])
                best = c;
        }
        if (!call->out)
            call->classes[pixel] = (uint8_t)best;
    }
}

/* The maximum of 2 x 2 pixels; an odd row or column at the end is dropped. */
static void unet_pool(float *arena, const unet_layer *l, int32_t row)
{
    const unet_layer *source = unet_layers + l->from;
    const float *a = unet_row(arena, source, 2 * row), *b = unet_row(arena, source, 2 * row + 1);
    float *to = unet_row(arena, l, row);
    int32_t x, c, channels = l->channels;
    for (x = 0; x < l->width; x++, a += channels, b += channels)
        for (c = 0; c < channels; c++, a++, b++) {
            float upper = a[0] > a[channels] ? a[0] : a[channels];
            float lower = b[0] > b[channels] ? b[0] : b[channels];
            *to++ = upper > lower ? upper : lower;
        }
}
