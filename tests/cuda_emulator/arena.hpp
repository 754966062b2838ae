// Sizes of the emulated device's memory.
#pragma once

#include <cstdint>

namespace cuda_emulator {

constexpr uint64_t GRAIN = 512;             // arrays begin at multiples of it, as CuPy's do
constexpr uint64_t RED_ZONE = 8 * GRAIN;    // that belongs to nobody, between arrays
constexpr uint64_t ARENA = uint64_t(16) << 30;  // addresses; memory is taken as it is touched

extern unsigned char* arena;
unsigned char* reserve(uint64_t bytes);  // addresses, all zeros, that take no memory until they are touched

}  // namespace cuda_emulator
