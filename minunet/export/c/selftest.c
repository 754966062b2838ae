#ifdef UNET_SELFTEST
/* Computes the logits of an image of pseudo-random numbers in [-1, 1); returns how many of those that were stored at
   the export come out otherwise. */
int unet_selftest(UNET_ARENA_ONLY);

int unet_selftest(UNET_ARENA_ONLY)
{
    static const float expected[] = {
UNET_EXPECTED
    };
    static float in[UNET_IN_C * UNET_IN_H * UNET_IN_W], out[UNET_OUT_C * UNET_OUT_H * UNET_OUT_W];
    uint32_t i, state = 1;
    int wrong = 0;
    for (i = 0; i < sizeof in / sizeof *in; i++) {
        state = state * 1664525u + 1013904223u;
        in[i] = (float)(int32_t)(state >> 16) / 32768.0f - 1.0f;
    }
#ifdef UNET_EXTERNAL_ARENA
    unet_predict(in, out, arena);
#else
    unet_predict(in, out);
#endif
    for (i = 0; i < sizeof expected / sizeof *expected; i++) {
        float difference = out[i * UNET_EXPECTED_STEP] - expected[i];
        wrong += !(difference <= UNET_TOLERANCE && difference >= -UNET_TOLERANCE);
    }
    return wrong;
}
#endif
