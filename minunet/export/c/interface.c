/* ---- what is offered ---- */

#ifdef UNET_EXTERNAL_ARENA
#define UNET_ARENA , void *arena
#define UNET_ARENA_ONLY void *arena
#define UNET_NUMBERS (unet_number *)arena
#else
#define UNET_ARENA
#define UNET_ARENA_ONLY void
#define UNET_NUMBERS unet_arena
static unet_number unet_arena[UNET_ARENA_BYTES / sizeof(unet_number)];
#endif

/* in: UNET_IN_C x UNET_IN_H x UNET_IN_W numbers, preprocessed; out: UNET_OUT_C x UNET_OUT_H x UNET_OUT_W logits. */
void unet_predict(const float *in, float *out UNET_ARENA);

/* image: UNET_IN_H x UNET_IN_W x UNET_IN_C bytes, as they come from a picture; classes: UNET_OUT_H x UNET_OUT_W. */
void unet_segment(const uint8_t *image, uint8_t *classes UNET_ARENA);

void unet_predict(const float *in, float *out UNET_ARENA)
{
    unet_call call = {0};
    call.in = in;
    call.out = out;
    call.arena = UNET_NUMBERS;
    unet_run(&call);
}

#if UNET_STANDARDIZE
/* 1 / sqrt(x), by Newton's iteration for the root; 0 for 0.  From above it halves until it is near. */
static float unet_inverse_root(uint64_t x)
{
    const float value = (float)(uint32_t)(x >> 32) * 4294967296.0f + (float)(uint32_t)x;
    float root = value;
    int32_t i;
    for (i = 0; x && i < 48; i++)
        root = 0.5f * (root + value / root);
    return x ? 1 / root : 0;
}

/* Mean 0 and standard deviation 1 over all N bytes b:  (N b - sum) / sqrt(N sum of squares - sum^2). */
static void unet_standardize(unet_call *call)
{
    uint64_t squares = 0, sum = 0;
    uint32_t i;
    call->count = UNET_IN_H * UNET_IN_W * UNET_IN_C;
    for (i = 0; i < UNET_IN_H * UNET_IN_W * UNET_IN_C; i++) {
        sum += call->image[i];
        squares += (uint32_t)call->image[i] * call->image[i];
    }
    call->sum = (int32_t)sum;
    call->factor = unet_inverse_root((uint64_t)call->count * squares - sum * sum);
}
#endif

void unet_segment(const uint8_t *image, uint8_t *classes UNET_ARENA)
{
    unet_call call = {0};
    call.image = image;
    call.classes = classes;
    call.arena = UNET_NUMBERS;
#if UNET_STANDARDIZE
    unet_standardize(&call);
#else
    call.count = 1;
    call.factor = 1;
#endif
    unet_run(&call);
}

