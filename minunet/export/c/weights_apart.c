/* The weights lie in the file beside this one, as floats of 4 bytes, little-endian, UNET_WEIGHTS_BYTES in all.  The
   program brings them to memory, aligned as floats are (by mapping the file, say), and hands them over before the first
   prediction. */
void unet_set_weights(const void *bytes);

static const float *unet_weights;

void unet_set_weights(const void *bytes)
{
    unet_weights = (const float *)bytes;
}
