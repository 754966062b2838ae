// The emulated device's memory: one range of addresses, so that an address tells what it belongs to.
//
// Under the address sanitizer every array comes from malloc instead, which puts red zones around it.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "arena.hpp"
#include "state.hpp"

namespace cuda_emulator {

#ifdef __SANITIZE_ADDRESS__

void* allocate(uint64_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, GRAIN, bytes ? bytes : 1)) return nullptr;
    memset(memory, POISON, bytes);
    return memory;
}

void release(void* memory) { free(memory); }

#else

unsigned char* reserve(uint64_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<unsigned char*>(memory);
}

unsigned char* arena = reserve(ARENA);
static uint32_t* const owners = reinterpret_cast<uint32_t*>(reserve(ARENA / GRAIN * 4));  // of each grain: block + 1
static std::vector<Block> blocks(1);
static std::vector<uint32_t> unused_blocks;
static std::map<uint64_t, std::vector<unsigned char*>> unused;  // places given back, by their size
static uint64_t taken = RED_ZONE;

const Block* block_of(const void* address) {
    const uint64_t offset = static_cast<const unsigned char*>(address) - arena;
    if (offset >= ARENA) return nullptr;
    const uint32_t owner = owners[offset / GRAIN];
    return owner ? &blocks[owner] : nullptr;
}

static uint64_t whole_grains(uint64_t bytes) { return (bytes + GRAIN - 1) / GRAIN * GRAIN; }

static unsigned char* place_for(uint64_t size) {
    std::vector<unsigned char*>& places = unused[size];
    if (!places.empty()) {
        unsigned char* place = places.back();
        places.pop_back();
        return place;
    }
    if (arena == nullptr || taken + size + RED_ZONE > ARENA) return nullptr;
    unsigned char* place = arena + taken;
    taken += size + RED_ZONE;
    return place;
}

void* allocate(uint64_t bytes) {
    const uint64_t size = whole_grains(bytes ? bytes : 1);
    unsigned char* memory = place_for(size);
    if (memory == nullptr) return nullptr;
    if (unused_blocks.empty()) {
        unused_blocks.push_back(uint32_t(blocks.size()));
        blocks.push_back({});
    }
    const uint32_t number = unused_blocks.back();
    unused_blocks.pop_back();
    blocks[number] = {memory, bytes};
    for (uint64_t i = 0; i < size / GRAIN; i++) owners[(memory - arena) / GRAIN + i] = number;
    memset(memory, POISON, size);
    return memory;
}

void release(void* memory) {
    const uint64_t first = (static_cast<unsigned char*>(memory) - arena) / GRAIN;
    const uint32_t number = owners[first];
    const uint64_t size = whole_grains(blocks[number].size ? blocks[number].size : 1);
    for (uint64_t i = 0; i < size / GRAIN; i++) owners[first + i] = 0;
    unused[size].push_back(static_cast<unsigned char*>(memory));
    unused_blocks.push_back(number);
}

#endif

}  // namespace cuda_emulator

extern "C" void* emulator_allocate(uint64_t bytes) { return cuda_emulator::allocate(bytes); }

extern "C" void emulator_free(void* memory) { cuda_emulator::release(memory); }
