// What the code of a kernel and the runtime library share; no standard header, since every .cu file includes it.
#pragma once

namespace cuda_emulator {

struct Index3 {
    unsigned x, y, z;
};

constexpr int LANES = 32;

// What the lanes of one warp do together; see warp.cpp for what becomes of the payloads.
enum class Collective : int { sync_warp, shuffle, shuffle_up, shuffle_down, shuffle_xor, multiply };

struct Shuffle {
    unsigned long long value, result;
    int operand, width;
};

struct Multiply {
    float* d;           // 4 numbers
    const unsigned* a;  // 4
    const unsigned* b;  // 2
};

void sync_threads(int line);
void collective(Collective what, unsigned mask, int line, void* payload);
void* dynamic_shared_memory();
void copy_async_issue(void* shared, const void* global, bool copy);
void copy_async_close();
void copy_async_complete(int still_under_way);

typedef float Vector __attribute__((vector_size(16), may_alias));  // what a vector load brings
#ifdef CUDA_EMULATOR_CHECKED
Vector load_vector(const void* from);  // watched as one access
void store_vector(void* to, Vector value);
#endif

[[noreturn]] void fail_at(const void* address, const char* what);

}  // namespace cuda_emulator
