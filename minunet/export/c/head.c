/* A U-Net for images of one size, written by minunet.  C99; nothing is included but <stdint.h>, nothing is allocated.

     void unet_predict(const float *in, float *out)               preprocessed numbers, channel by channel, to logits
     void unet_segment(const uint8_t *image, uint8_t *classes)    bytes, pixel by pixel, to the class of each pixel

   Macros, to be defined where this file is compiled:
     UNET_SIMD             uses the vectors of GCC and Clang
     UNET_EXTERNAL_ARENA   both functions get a last parameter, void *arena: UNET_ARENA_BYTES bytes, aligned as floats
                           are.  Without it a static arena is used, so two calls must not run at the same time
     UNET_SELFTEST         int unet_selftest(void): the number of wrong logits, 0 where all is well  */

#include <stdint.h>

