/* Runs an exported network: reads numbers and bytes of images, writes logits, classes and the self-test's count.
   The arena is poisoned before every call, so that a row which is read before it was written shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unet.c"

static void *loaded(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    void *bytes = malloc(size);
    if (!file || !bytes || fread(bytes, 1, size, file) != size)
        exit(3);
    fclose(file);
    return bytes;
}

static void stored(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file))
        exit(4);
}

int main(void)
{
    const size_t pixels = (size_t)UNET_OUT_H * UNET_OUT_W, size = sizeof(float) * UNET_OUT_C * pixels;
    float *in = loaded("in", sizeof(float) * UNET_IN_C * UNET_IN_H * UNET_IN_W), *out = malloc(size);
    uint8_t *image = loaded("image", (size_t)UNET_IN_C * UNET_IN_H * UNET_IN_W), *classes = malloc(pixels);
    void *arena = malloc(UNET_ARENA_BYTES);
    int wrong;
#ifdef APART
    void *weights = loaded("unet.bin", UNET_WEIGHTS_BYTES);
    unet_set_weights(weights);
#endif
    memset(arena, 0xff, UNET_ARENA_BYTES); /* NaN */
    unet_predict(in, out, arena);
    stored("out", out, size);
    memset(arena, 0xff, UNET_ARENA_BYTES);
    unet_segment(image, classes, arena);
    stored("classes", classes, pixels);
    memset(arena, 0xff, UNET_ARENA_BYTES);
    wrong = unet_selftest(arena);
    printf("%d\n", wrong);
    free(in), free(out), free(image), free(classes), free(arena);
#ifdef APART
    free(weights);
#endif
    return 0;
}
