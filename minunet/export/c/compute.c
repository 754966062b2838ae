static void unet_compute(const unet_call *call, const unet_layer *l, int32_t row)
{
    switch (l->kind) {
    case UNET_READ:
        unet_read(call, l, row);
        break;
    case UNET_WRITE:
        unet_write(call, l, row);
        break;
    case UNET_POOL:
        unet_pool(call->arena, l, row);
        break;
#ifdef UNET_RESIZE
    case UNET_RESIZE:
    case UNET_DOUBLE:
        unet_resize(call->arena, l, row);
        break;
#endif
    default: /* UNET_CONV, UNET_UP */
        unet_convolve(call->arena, l, row);
    }
}

