/* The weights lie in the file beside this one, a byte each, UNET_WEIGHTS_BYTES in all.  The program brings them to memory
   (by mapping the file, say), and hands them over before the first prediction. */
void unet_set_weights(const void *bytes);

static const int8_t *unet_weights;

void unet_set_weights(const void *bytes)
{
    unet_weights = (const int8_t *)bytes;
}
