/* In integers: between the first and the last layer there is no float.

   The arena holds bytes.  A layer's value is scale * (byte - zero); zero is 0, behind a rectifier, or 128.  Weights are
   int8, sums int32: at the export it was looked at that none can leave 32 bits.  The arena needs no alignment, and
   UNET_SIMD changes nothing. */
typedef uint8_t unet_number; /* of the arena */

/* An output channel's sum begins with the bias; the byte of a sum is sum * multiplier / 2^(32 + shift) + zero. */
typedef struct {
    int32_t bias, multiplier;
    uint8_t shift;
} unet_channel;

/* A layer, and where its output lies: row r at start + r % rows * stride in the arena; in a row pixel by pixel, in a
   pixel channel by channel, a byte each, or four where sums are stored. */
typedef struct {
    uint32_t start, stride;
    uint32_t weights, block, odd, first; /* first weight; weights of 8 channels; further on for odd rows; channel */
    uint16_t rows, height, width, channels;
    uint8_t kind, from, also, kernel, zero, bytes; /* sources: from, and also, unless that is 0 */
} unet_layer;

static const unet_layer unet_layers[UNET_LAYERS] = {
