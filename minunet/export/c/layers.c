typedef float unet_number; /* of the arena */

/* A layer, and where its output lies: row r at start + r % rows * stride in the arena; in a row pixel by pixel, in a
   pixel channel by channel. */
typedef struct {
    uint32_t start, stride;
    uint32_t weights, block, odd; /* first weight; weights of `lanes` output channels; further on for odd rows */
    uint16_t rows, height, width, channels;
    uint8_t kind, from, also, kernel, lanes, relu; /* sources: from, and also, unless that is 0 */
} unet_layer;

static const unet_layer unet_layers[UNET_LAYERS] = {
