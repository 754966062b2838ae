// Twins of the wrappers in kernels/cuda/prelude.cuh: what a device does in one instruction, in C++.
#pragma once

#include "runtime.hpp"

__forceinline__ void check_alignment(const void* address) {
    if (reinterpret_cast<size_t>(address) % 16)
        cuda_emulator::fail_at(address, "misaligned vector access: the address is no multiple of 16");
}

__forceinline__ Pack load_pack(const real* from) {
#ifdef CUDA_EMULATOR_CHECKED
    return cuda_emulator::same_bits<Pack>(cuda_emulator::load_vector(from));
#else
    check_alignment(from);
    return *reinterpret_cast<const Pack*>(from);
#endif
}

__forceinline__ void store_pack(real* to, const Pack& value) {
#ifdef CUDA_EMULATOR_CHECKED
    cuda_emulator::store_vector(to, cuda_emulator::same_bits<cuda_emulator::Vector>(value));
#else
    check_alignment(to);
    *reinterpret_cast<Pack*>(to) = value;
#endif
}

template <typename T>
__forceinline__ T* dynamic_shared() {
    return static_cast<T*>(cuda_emulator::dynamic_shared_memory());
}

__forceinline__ void copy_async(float* shared, const float* global, bool copy) {
    check_alignment(shared);
    check_alignment(global);
    cuda_emulator::copy_async_issue(shared, global, copy);
}

__forceinline__ void copy_async_commit() { cuda_emulator::copy_async_close(); }

template <int N>
__forceinline__ void copy_async_wait() {
    cuda_emulator::copy_async_complete(N);
}

// cvt.rna: to the nearest number with 10 bits of mantissa, ties away from zero; a NaN stays one.
__forceinline__ unsigned to_tf32(float value) {
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits & 0x007fffffu ? 0x7fffffffu : bits;
    return (bits + 0x1000u) & 0xffffe000u;
}

#define mma_tf32(...) cuda_emulator::multiply(__LINE__, __VA_ARGS__)

namespace cuda_emulator {
__forceinline__ void multiply(int line, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    Multiply own = {d, a, b};
    collective(Collective::multiply, 0xffffffffu, line, &own);
}
}  // namespace cuda_emulator
