// What the parts of the runtime library know of the launch that runs.
#pragma once

#include <cstdint>
#include <vector>

#include "fibres.hpp"
#include "runtime.hpp"

namespace cuda_emulator {

constexpr int MOST_THREADS = 1024;
constexpr unsigned char POISON = 0xff;

// What Python hands over for a launch: the same fields in the same order as in launching.py.
struct Launch {
    void (*kernel)(void**);
    void** arguments;
    unsigned grid[3], block[3];
    unsigned char *shared, *shared_end;      // static shared memory of the module
    const unsigned char *image, *image_end;  // all of the module
    uint64_t dynamic_bytes;
    int order;
    int early_copies;
    int counted;
    uint64_t seed;
};

// What went wrong, for Python to tell: addresses are 0 where there is none.
struct Report {
    char text[1024];
    uint64_t address, site, other_site;
    Index3 block, thread;
    uint64_t dynamic;  // where dynamic shared memory begins
};

struct AsyncCopy {
    unsigned char* shared;
    const unsigned char* global;
    bool copy;
    int group;
    uint64_t site;
};

struct Thread {
    Index3 place;
    Fibre* fibre;
    int barrier;  // the line of the barrier that it waits at, or 0
    bool done;
    int group;  // of asynchronous copies: the one that is open
    std::vector<AsyncCopy> copies;
};

extern Launch launch;
extern Report report;
extern Thread threads[MOST_THREADS];
extern int thread_count, current;
extern unsigned char* dynamic_memory;

// Gives up the launch: Python's call returns, and the fibres are left as they are.
[[noreturn]] void give_up();
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// ---- memory.cpp
void* allocate(uint64_t bytes);
void release(void* memory);
struct Block {  // an allocation
    const unsigned char* from;
    uint64_t size;
};
const Block* block_of(const void* address);  // that an address of the arena lies in or, within 512 bytes, ends before

// ---- checks.cpp; without CUDA_EMULATOR_CHECKED nothing is watched
#ifdef CUDA_EMULATOR_CHECKED
void checks_start_launch();
void checks_start_block();
void checks_barrier();
void checks_meet(int warp, unsigned mask);  // lanes of a warp that have waited for each other
void checks_access(const void* address, uint64_t size, bool write, uint64_t site);
void checks_under_way(const void* shared);  // 16 bytes are being copied to
#else
inline void checks_start_launch() {}
inline void checks_start_block() {}
inline void checks_barrier() {}
inline void checks_meet(int, unsigned) {}
inline void checks_access(const void*, uint64_t, bool, uint64_t) {}
inline void checks_under_way(const void*) {}
#endif

// ---- counts.cpp
void counts_access(uint64_t address, uint64_t size, bool write, bool shared, uint64_t site);
void counts_start();
void counts_flush();  // threads have met, or the block has ended

}  // namespace cuda_emulator
