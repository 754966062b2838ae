// What every kernel file begins with: the types, vector loads, and the few instructions that C++ has no words for.
//
// The same text is compiled by NVRTC for a device and, with CUDA_EMULATED defined, by a C++ compiler for the emulator
// in tests/cuda_emulator/.  Whatever only a device can do sits here in one function each, and has its twin there:
// load_pack, store_pack, dynamic_shared, copy_async, copy_async_commit, copy_async_wait, to_tf32, mma_tf32.
#pragma once

#ifndef REAL
#define REAL float  // the launcher gives float or double
#endif
typedef REAL real;
typedef long long index;             // 64 bits: a picture may have more than 2^31 numbers
constexpr int PACK = 16 / sizeof(real);  // numbers that one vector load brings
constexpr int WARP = 32;

// PACK numbers side by side, aligned so that they move as one.
struct alignas(16) Pack {
    real at[PACK];
};

#ifdef CUDA_EMULATED
#include "device_twins.hpp"
#else

// Loads and stores of 16 bytes; the address must be a multiple of 16.
__device__ __forceinline__ Pack load_pack(const real* from) { return *reinterpret_cast<const Pack*>(from); }
__device__ __forceinline__ void store_pack(real* to, const Pack& value) { *reinterpret_cast<Pack*>(to) = value; }

// The block's shared memory whose size is given at the launch.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
    extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
    return reinterpret_cast<T*>(dynamic_shared_bytes);
}

#if __CUDA_ARCH__ >= 800
// Copies 16 bytes (or, where !copy, writes 16 bytes of zeros) from global to shared memory without waiting.
__device__ __forceinline__ void copy_async(float* shared, const float* global, bool copy) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int bytes = copy ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}

// Closes a group of copies; copy_async_wait<N>() waits until at most the N youngest groups are under way.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// The nearest number with the 10 bits of mantissa that tensor cores read of a float.
__device__ __forceinline__ unsigned to_tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}

// d += a b for a warp: a is 16 x 8, b 8 x 8, d 16 x 8; which lane holds what: PTX ISA, mma.m16n8k8.
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
#endif
