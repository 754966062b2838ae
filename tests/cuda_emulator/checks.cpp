// Every load and store of a kernel watched: bounds, races, and reads of shared memory that nobody has written.
//
// The compiler calls the functions below, whose names are those of its thread sanitizer, before each access; nothing
// else of that sanitizer is used.  Every word of memory has a cell that tells who wrote it and who read it last, and
// when.  Time is a clock that ticks whenever threads meet, so that nothing needs to be cleared: what is older than the
// launch, the block, the last barrier or the last meeting of the warp counts as none of it.
#ifdef CUDA_EMULATOR_CHECKED
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "arena.hpp"
#include "state.hpp"

namespace cuda_emulator {

enum : uint32_t {
    OTHER_WARPS = 1,     // read by several warps since the last barrier
    EARLIER_BLOCKS = 2,  // read by a block of this launch that has ended
    UNDER_WAY = 4,       // an asynchronous copy will write here
    SPLIT = 8,           // each byte of this word has a cell of its own
};

struct Cell {
    uint32_t written, read;  // by the clock
    uint32_t write_site, read_site;
    uint16_t writer, reading_warp;
    uint32_t lanes;  // of that warp: those who have read, each without knowing of the others
    uint32_t flags;
};

// The cells of a range of memory: the first of each word, then those of its second, third and fourth bytes.
struct Shadow {
    Cell* cells;
    uint64_t words;

    explicit Shadow(uint64_t bytes)
        : cells(reinterpret_cast<Cell*>(reserve(bytes * sizeof(Cell)))), words(bytes / 4) {}
    Cell& cell(uint64_t offset) { return cells[offset % 4 * words + offset / 4]; }
    void clear() { madvise(cells, 4 * words * sizeof(Cell), MADV_DONTNEED); }
};

constexpr uint64_t MOST_SHARED = 1 << 20;
static Shadow of_arena(ARENA), of_shared(2 * MOST_SHARED);
static uint32_t now, launched, started, met;  // clock: now, and at the beginnings of launch, block and interval
static uint32_t warp_met[MOST_THREADS / LANES];
static uint32_t lanes_met[MOST_THREADS][LANES];  // when a thread last knew what that lane had done; for partial masks
static bool some_met;                            // whether any lanes have met without the rest of their warp

void checks_start_launch() {
    if (now >> 31) {  // long before the clock runs over, everything is forgotten
        of_arena.clear();
        of_shared.clear();
        now = 0;
    }
    launched = ++now;
}

void checks_start_block() {
    started = met = ++now;
    memset(warp_met, 0, sizeof warp_met);
    if (some_met) memset(lanes_met, 0, sizeof lanes_met);
    some_met = false;
}

void checks_barrier() { met = ++now; }

void checks_meet(int warp, unsigned mask) {
    now++;
    const int count = thread_count - warp * LANES;
    const unsigned all = count >= LANES ? 0xffffffffu : (1u << count) - 1;
    if ((mask & all) == all) {
        warp_met[warp] = now;
        return;
    }
    some_met = true;
    for (int lane = 0; lane < LANES; lane++) {  // each knows now what any of them has known
        uint32_t latest = mask >> lane & 1 ? now : 0;
        for (int other = 0; other < LANES; other++)
            if (mask >> other & 1) latest = std::max(latest, lanes_met[warp * LANES + other][lane]);
        for (int other = 0; other < LANES; other++)
            if (mask >> other & 1) lanes_met[warp * LANES + other][lane] = latest;
    }
}

// Whether what a thread of this block did at a time since the last barrier is known to have happened before.
static inline bool ordered(int thread, uint32_t when) {
    if (thread == current) return true;
    const int warp = current / LANES;
    return thread / LANES == warp && (when < warp_met[warp] || (some_met && when < lanes_met[current][thread % LANES]));
}

struct Access {
    uint64_t address, size, site;
    bool write;
};

[[noreturn]] static void refuse(const Access& access, uint32_t other_site, const char* what) {
    report.address = access.address;
    report.site = access.site;
    report.other_site = other_site ? reinterpret_cast<uint64_t>(launch.image) + other_site : 0;
    fail("%s of %llu bytes %s", access.write ? "write" : "read", (unsigned long long)access.size, what);
}

[[noreturn]] static void refuse_race(const Access& access, uint32_t other_site, const char* verb, int thread) {
    char what[160];
    const Index3& other = threads[thread].place;
    snprintf(what, sizeof what, "races: thread (%u, %u, %u) %s there, and nothing orders the two", other.x, other.y,
             other.z, verb);
    refuse(access, other_site, what);
}

// Shared memory begins anew with every block, global memory with every launch.
template <bool SHARED>
static inline void check_writer(const Cell& cell, const Access& access) {
    if (cell.written < (SHARED ? started : launched)) return;
    if (cell.written < started) refuse(access, cell.write_site, "races: another block writes there in the same launch");
    if (cell.written >= met && !ordered(cell.writer, cell.written))
        refuse_race(access, cell.write_site, "wrote", cell.writer);
}

template <bool SHARED>
static inline void check_readers(const Cell& cell, const Access& access) {
    if (cell.read < (SHARED ? started : launched)) return;
    if (!SHARED && (cell.read < started || cell.flags & EARLIER_BLOCKS))
        refuse(access, cell.read_site, "races: another block reads there in the same launch");
    if (cell.read < met) return;
    if (cell.flags & OTHER_WARPS) refuse(access, cell.read_site, "races: several warps have read there, unordered");
    for (int lane = 0; lane < LANES && cell.lanes >> lane; lane++)
        if (cell.lanes >> lane & 1 && !ordered(cell.reading_warp * LANES + lane, cell.read))
            refuse_race(access, cell.read_site, "read", cell.reading_warp * LANES + lane);
}

// Leaves out the readers of whom the current thread knows: whoever comes after it comes after them.
static uint32_t unknown_lanes(const Cell& cell) {
    uint32_t lanes = cell.lanes;
    for (int lane = 0; lane < LANES; lane++)
        if (lanes >> lane & 1 && ordered(cell.reading_warp * LANES + lane, cell.read)) lanes &= ~(1u << lane);
    return lanes;
}

static inline void note_reader(Cell& cell, uint32_t site) {
    const int warp = current / LANES;
    const uint32_t own = 1u << current % LANES;
    if (cell.read < met) {
        uint32_t flags = cell.flags & ~OTHER_WARPS;
        if (cell.read < launched)
            flags &= ~EARLIER_BLOCKS;
        else if (cell.read < started)
            flags |= EARLIER_BLOCKS;
        cell.flags = flags;
        cell.reading_warp = uint16_t(warp);
        cell.lanes = own;
    } else if (cell.reading_warp != warp) {
        cell.flags |= OTHER_WARPS;
    } else if (cell.read < warp_met[warp]) {
        cell.lanes = own;
    } else if (cell.lanes != own) {
        cell.lanes = (some_met ? unknown_lanes(cell) : cell.lanes) | own;
    }
    cell.read = now;
    cell.read_site = site;
}

template <bool SHARED, bool WRITE>
static inline void touch(Cell& cell, const Access& access, uint32_t site) {
    if (WRITE) {
        check_readers<SHARED>(cell, access);
        check_writer<SHARED>(cell, access);
        cell.flags &= ~UNDER_WAY;
        cell.written = now;
        cell.writer = uint16_t(current);
        cell.write_site = site;
        return;
    }
    // Several warps have read since the last barrier: one read more changes nothing, any write is an error already.
    if (cell.flags == OTHER_WARPS && cell.read >= met) return;
    if (SHARED && cell.written < started) refuse(access, 0, "of shared memory that nobody has written in this block");
    check_writer<SHARED>(cell, access);
    if (SHARED && cell.flags & UNDER_WAY)
        refuse(access, cell.write_site, "of shared memory whose asynchronous copy has not been waited for");
    note_reader(cell, site);
}

static void split(Shadow& shadow, uint64_t word) {
    Cell& first = shadow.cells[word];
    if (first.flags & SPLIT) return;
    first.flags |= SPLIT;
    for (int byte = 1; byte < 4; byte++) shadow.cells[byte * shadow.words + word] = first;
}

template <bool SHARED, bool WRITE>
static inline void touch_all(Shadow& shadow, uint64_t offset, const Access& access) {
    const uint32_t site = uint32_t(access.site - reinterpret_cast<uint64_t>(launch.image));
    for (const uint64_t end = offset + access.size; offset < end;) {
        if (offset % 4 == 0 && end - offset >= 4 && !(shadow.cells[offset / 4].flags & SPLIT)) {
            touch<SHARED, WRITE>(shadow.cells[offset / 4], access, site);
            offset += 4;
        } else {
            split(shadow, offset / 4);
            touch<SHARED, WRITE>(shadow.cell(offset), access, site);
            offset++;
        }
    }
}

template <bool WRITE>
static inline void touch_shared(uint64_t offset, const Access& access) {
    if (launch.counted) counts_access(access.address, access.size, WRITE, true, access.site);
    touch_all<true, WRITE>(of_shared, offset, access);
}

template <bool WRITE>
static inline void touch_global(uint64_t offset, const Access& access) {
    const Block* block = block_of(reinterpret_cast<const void*>(access.address));
    if (block == nullptr) refuse(access, 0, "out of bounds: the address belongs to no array");
    if (access.address + access.size > reinterpret_cast<uint64_t>(block->from) + block->size)
        refuse(access, 0, "out of bounds: after the end of an array");
    if (launch.counted) counts_access(access.address, access.size, WRITE, false, access.site);
    touch_all<false, WRITE>(of_arena, offset, access);
}

// An address that is neither shared nor of the arena: only what the compiler laid down may be there.
static void check_other(const Access& access) {
    const auto* address = reinterpret_cast<const unsigned char*>(access.address);
    if (address >= launch.image && address < launch.image_end) return;
    refuse(access, 0, "out of bounds: neither an array nor the block's shared memory lies there");
}

static const uint64_t stacks = reinterpret_cast<uint64_t>(all_stacks());

template <bool WRITE>
static inline void watch(uint64_t address, uint64_t size, uint64_t site) {
    if (address - stacks < STACK * MOST_FIBRES) return;
    const Access access = {address, size, site, WRITE};
    const uint64_t in_arena = address - reinterpret_cast<uint64_t>(arena);
    if (in_arena < ARENA) return touch_global<WRITE>(in_arena, access);
    const uint64_t in_shared = address - reinterpret_cast<uint64_t>(launch.shared);
    if (in_shared + size <= uint64_t(launch.shared_end - launch.shared)) return touch_shared<WRITE>(in_shared, access);
    const uint64_t in_dynamic = address - reinterpret_cast<uint64_t>(dynamic_memory);
    if (in_dynamic + size <= launch.dynamic_bytes) return touch_shared<WRITE>(MOST_SHARED + in_dynamic, access);
    check_other(access);
}

void checks_access(const void* address, uint64_t size, bool write, uint64_t site) {
    if (write)
        watch<true>(reinterpret_cast<uint64_t>(address), size, site);
    else
        watch<false>(reinterpret_cast<uint64_t>(address), size, site);
}

void checks_under_way(const void* shared) {
    const auto* address = static_cast<const unsigned char*>(shared);
    const bool is_static = address >= launch.shared && address < launch.shared_end;
    const uint64_t offset = is_static ? address - launch.shared : MOST_SHARED + (address - dynamic_memory);
    for (uint64_t word = offset / 4; word < offset / 4 + 4; word++)
        for (int byte = 0; byte < 4; byte++) of_shared.cells[byte * of_shared.words + word].flags |= UNDER_WAY;
}

#define SITE reinterpret_cast<uint64_t>(__builtin_return_address(0))

static void check_alignment(uint64_t address, uint64_t size, bool write, uint64_t site) {
    if (address % size) refuse({address, size, site, write}, 0, "misaligned: the address is no multiple of the size");
}

Vector load_vector(const void* from) {
    const uint64_t address = reinterpret_cast<uint64_t>(from);
    check_alignment(address, 16, false, SITE);
    watch<false>(address, 16, SITE);
    return *static_cast<const Vector*>(from);
}

void store_vector(void* to, Vector value) {
    const uint64_t address = reinterpret_cast<uint64_t>(to);
    check_alignment(address, 16, true, SITE);
    watch<true>(address, 16, SITE);
    *static_cast<Vector*>(to) = value;
}

}  // namespace cuda_emulator

using namespace cuda_emulator;

#define WATCH(name, size, write)                                                     \
    extern "C" void __tsan_##name(void* at) {                                        \
        if (reinterpret_cast<uint64_t>(at) % size)                                   \
            check_alignment(reinterpret_cast<uint64_t>(at), size, write, SITE);      \
        watch<write>(reinterpret_cast<uint64_t>(at), size, SITE);                    \
    }
WATCH(read1, 1, false)
WATCH(read2, 2, false)
WATCH(read4, 4, false)
WATCH(read8, 8, false)
WATCH(read16, 16, false)
WATCH(write1, 1, true)
WATCH(write2, 2, true)
WATCH(write4, 4, true)
WATCH(write8, 8, true)
WATCH(write16, 16, true)
WATCH(unaligned_read2, 2, false)
WATCH(unaligned_read4, 4, false)
WATCH(unaligned_read8, 8, false)
WATCH(unaligned_read16, 16, false)
WATCH(unaligned_write2, 2, true)
WATCH(unaligned_write4, 4, true)
WATCH(unaligned_write8, 8, true)
WATCH(unaligned_write16, 16, true)

extern "C" void __tsan_read_range(void* at, unsigned long size) {
    watch<false>(reinterpret_cast<uint64_t>(at), size, SITE);
}

extern "C" void __tsan_write_range(void* at, unsigned long size) {
    watch<true>(reinterpret_cast<uint64_t>(at), size, SITE);
}

extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit(void*) {}
extern "C" void __tsan_init() {}
#endif
