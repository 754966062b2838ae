/* Writes what every layer of an exported network in integers computes, row by row: bytes, and the last sums.
   For the default plan, in which each layer but the last two is whole before the next begins. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unet.c"

static void computed(unet_call *call, int32_t i, int32_t row, FILE *file)
{
    const unet_layer *l = unet_layers + i;
    unet_compute(call, l, row);
    if (l->kind != UNET_WRITE)
        fwrite(unet_row(call->arena, l, row), (size_t)l->width * l->channels * l->bytes, 1, file);
}

int main(void)
{
    static float in[UNET_IN_C * UNET_IN_H * UNET_IN_W], out[UNET_OUT_C * UNET_OUT_H * UNET_OUT_W];
    FILE *file = fopen("in", "rb"), *rows = fopen("rows", "wb");
    unet_call call = {0};
    int32_t i, row;
    if (!file || !rows || fread(in, sizeof in, 1, file) != 1)
        return 3;
    fclose(file);
    call.in = in;
    call.out = out;
    call.arena = malloc(UNET_ARENA_BYTES);
    memset(call.arena, 0xff, UNET_ARENA_BYTES);
    for (i = 0; i < UNET_LAYERS - 2; i++)
        for (row = 0; row < unet_layers[i].height; row++)
            computed(&call, i, row, rows);
    for (row = 0; row < UNET_OUT_H; row++)
        for (i = UNET_LAYERS - 2; i < UNET_LAYERS; i++)
            computed(&call, i, row, rows);
    free(call.arena);
    return fclose(rows);
}
