/* ---- the order: layer after layer ---- */

static void unet_run(unet_call *call)
{
    int32_t i, row;
    for (i = 0; i < UNET_LAYERS; i++)
        for (row = 0; row < unet_layers[i].height; row++)
            unet_compute(call, unet_layers + i, row);
}

