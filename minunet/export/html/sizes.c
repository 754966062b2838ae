/* ---- images of several sizes ---- */

/* The sizes of what the next predictions are given: at most those of the first, and less by a multiple of what all
   pooling together divides by, so that every layer is smaller by a whole number.  Outputs stay where they were planned:
   smaller ones leave a part of their place unused. */
void unet_set_size(int32_t height, int32_t width);

void unet_set_size(int32_t height, int32_t width)
{
    const int32_t down = height - UNET_IN_H, across = width - UNET_IN_W;
    int32_t i, divisor = 1;
    for (i = 0; i < UNET_LAYERS; i++) {
        unet_layer *l = unet_layers + i;
        if (l->kind == UNET_POOL)
            divisor *= 2;
        else if (l->kind == UNET_UP)
            divisor /= 2;
        l->height = (uint16_t)(l->height + down / divisor);
        l->width = (uint16_t)(l->width + across / divisor);
    }
}
