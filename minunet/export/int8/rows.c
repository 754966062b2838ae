/* ---- one row of each kind of layer ---- */

/* What a call is about: float in and out, or an image and its classes; x = (byte * count - sum) * factor. */
typedef struct {
    const float *in;
    const uint8_t *image;
    int32_t count, sum;
    float factor;
    float *out;
    uint8_t *classes;
    uint8_t *arena;
} unet_call;

static uint8_t *unet_row(uint8_t *arena, const unet_layer *l, int32_t row)
{
    return arena + l->start + (uint32_t)(row % l->rows) * l->stride;
}

/* The byte of a number, half up.  One product and no sum of floats: what a fused multiply-add would change is not here.
   Beyond +-2^24, which is 256 bytes, and for NaN, the byte is at its limit. */
static uint8_t unet_byte(float x, int32_t zero)
{
    const float fine = x * UNET_FINE;
    const int32_t whole = fine >= 16777216.0f ? 16777216 : fine > -16777216.0f ? (int32_t)fine : -16777216;
    const int32_t byte = whole + (2 * zero + 1) * 32768;
    return (uint8_t)(byte < 0 ? 0 : byte >> 16 < 255 ? byte >> 16 : 255);
}

/* The caller's numbers or bytes to a row of pixels. */
static void unet_read(const unet_call *call, const unet_layer *l, int32_t row)
{
    uint8_t *to = unet_row(call->arena, l, row);
    int32_t x, c;
    for (x = 0; x < l->width; x++)
        for (c = 0; c < l->channels; c++) {
            float value;
            if (call->in)
                value = call->in[((uint32_t)c * UNET_IN_H + (uint32_t)row) * UNET_IN_W + (uint32_t)x];
            else
                value = (float)(call->image[((uint32_t)row * UNET_IN_W + (uint32_t)x) * UNET_IN_C + (uint32_t)c]
                                * call->count - call->sum) * call->factor;
            *to++ = unet_byte(value, l->zero);
        }
}

static float unet_logit(const uint8_t *sum, int32_t c)
{
    const uint32_t bits = sum[0] | (uint32_t)sum[1] << 8 | (uint32_t)sum[2] << 16 | (uint32_t)sum[3] << 24;
    return (float)(int32_t)bits * unet_steps[c];
}

/* A row of logits to the caller: as they are, or as the class of the largest (of one logit: whether it is above 0). */
static void unet_write(const unet_call *call, const unet_layer *l, int32_t row)
{
    const uint8_t *from = unet_row(call->arena, unet_layers + l->from, row);
    int32_t x, c, best;
    for (x = 0; x < l->width; x++) {
        const uint32_t pixel = (uint32_t)row * UNET_OUT_W + (uint32_t)x;
        float largest = 0;
        best = 0;
        for (c = 0; c < l->channels; c++, from += 4) {
            const float logit = unet_logit(from, c);
            if (call->out)
                call->out[(uint32_t)c * UNET_OUT_H * UNET_OUT_W + pixel] = logit;
            else if (l->channels == 1)
                best = logit > 0;
            else if (c == 0 || logit > largest) {
                largest = logit;
                best = c;
            }
        }
        if (!call->out)
            call->classes[pixel] = (uint8_t)best;
    }
}

/* The maximum of 2 x 2 pixels; an odd row or column at the end is dropped. */
static void unet_pool(uint8_t *arena, const unet_layer *l, int32_t row)
{
    const unet_layer *source = unet_layers + l->from;
    const uint8_t *a = unet_row(arena, source, 2 * row), *b = unet_row(arena, source, 2 * row + 1);
    uint8_t *to = unet_row(arena, l, row);
    int32_t x, c, channels = l->channels;
    for (x = 0; x < l->width; x++, a += channels, b += channels)
        for (c = 0; c < channels; c++, a++, b++) {
            uint8_t upper = a[0] > a[channels] ? a[0] : a[channels];
            uint8_t lower = b[0] > b[channels] ? b[0] : b[channels];
            *to++ = upper > lower ? upper : lower;
        }
}
