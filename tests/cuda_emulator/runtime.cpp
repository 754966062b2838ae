// The runtime library: runs a grid on the processor, one block at a time, every thread of the block a fibre.
//
// A fibre is a stack with a place to go on from.  It runs threads of the block one after the other; a thread that has
// to wait keeps its fibre, and another fibre goes on with the threads that are left.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "state.hpp"

extern "C" {
cuda_emulator::Index3 threadIdx, blockIdx, blockDim, gridDim;
}

namespace cuda_emulator {

enum Order { ASCENDING, DESCENDING, RANDOM };

struct Lane {
    Collective what;
    unsigned mask;
    int line;
    void* payload;
};

struct Warp {
    unsigned waiting;  // lanes that are in a collective
    Lane lanes[LANES];
};

Launch launch;
Report report;
Thread threads[MOST_THREADS];
static Warp warps[MOST_THREADS / LANES];
int thread_count, current;
static int done_count;
static std::vector<int> turn;   // the threads in the order in which they go on after a barrier
static std::vector<int> rank;   // the place of each thread in it
static std::vector<int> ready;  // threads that can go on; those before next_ready have
static size_t next_ready;
static std::vector<Fibre*> idle;
static Fibre home;  // the stack of Python's call
unsigned char* dynamic_memory;
static bool failed;
static uint64_t random_state;

static uint64_t random_number() {  // splitmix64
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

template <typename T>
static void put_in_order(std::vector<T>& items) {
    const size_t count = items.size();
    for (size_t i = 0; i < count; i++) items[i] = T(launch.order == DESCENDING ? count - 1 - i : i);
    if (launch.order == RANDOM)
        for (size_t i = count; i > 1; i--) std::swap(items[i - 1], items[random_number() % i]);
}

// ------------------------------------------------------------------------------- errors

void give_up() {
    failed = true;
    report.dynamic = reinterpret_cast<uint64_t>(dynamic_memory);
    report.block = blockIdx;
    report.thread = threadIdx;
    switch_fibre(threads[current].fibre, &home);
    abort();
}

void fail(const char* format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(report.text, sizeof report.text, format, values);
    va_end(values);
    give_up();
}

// Of another thread than the one that runs.
#define fail_of(thread, ...) (threadIdx = threads[thread].place, fail(__VA_ARGS__))

void fail_at(const void* address, const char* what) {
    report.address = reinterpret_cast<uint64_t>(address);
    report.site = reinterpret_cast<uint64_t>(__builtin_return_address(0));
    fail("%s", what);
}

// ------------------------------------------------------------------------------- whose turn it is

static void all_are_ready() {
    if (launch.order == RANDOM) {
        put_in_order(turn);
        for (int i = 0; i < thread_count; i++) rank[turn[i]] = i;
    }
    ready = turn;
    next_ready = 0;
}

// Everybody waits or has ended: if all wait at one barrier they go on, everything else is an error.
static void release_barrier() {
    for (int t = 0; t < thread_count; t++) {
        const Warp& warp = warps[t / LANES];
        const Lane& lane = warp.lanes[t % LANES];
        if (warp.waiting >> (t % LANES) & 1)
            fail_of(t, "waits in vain for the other lanes of its warp (mask %08x) in line %d", lane.mask, lane.line);
    }
    int first = 0;
    while (threads[first].done) first++;
    const int line = threads[first].barrier;
    for (int t = 0; t < thread_count; t++) {
        const Index3& other = threads[t].place;
        if (threads[t].done)
            fail_of(first, "uneven barriers: it waits in line %d, thread (%u, %u, %u) has ended", line, other.x,
                    other.y, other.z);
        if (threads[t].barrier != line)
            fail_of(first, "uneven barriers: it waits in line %d, thread (%u, %u, %u) in line %d", line, other.x,
                    other.y, other.z, threads[t].barrier);
    }
    for (int t = 0; t < thread_count; t++) threads[t].barrier = 0;
    checks_barrier();
    if (launch.counted) counts_flush();
    all_are_ready();
}

// The thread that goes on next, or -1 when the block has ended.
static int take() {
    if (next_ready == ready.size()) {
        if (done_count == thread_count) return -1;
        release_barrier();
    }
    return ready[next_ready++];
}

static void become(int thread) {
    current = thread;
    threadIdx = threads[thread].place;
}

static Fibre* idle_fibre();

// The current thread has to wait: others go on until it is ready again.
static void wait() {
    Fibre* own = threads[current].fibre;
    const int next = take();
    become(next);
    if (threads[next].fibre == nullptr) threads[next].fibre = idle_fibre();
    if (threads[next].fibre != own) switch_fibre(own, threads[next].fibre);
}

static void run_threads(Fibre* own) {
    for (;;) {
        launch.kernel(launch.arguments);
        threads[current].done = true;
        done_count++;
        const int next = take();
        if (next < 0) {
            idle.push_back(own);
            switch_fibre(own, &home);
        } else {
            become(next);
            if (threads[next].fibre == nullptr) {
                threads[next].fibre = own;
            } else {
                idle.push_back(own);
                switch_fibre(own, threads[next].fibre);
            }
        }
    }
}

static Fibre* idle_fibre() {
    if (idle.empty()) idle.push_back(new_fibre(run_threads));
    Fibre* fibre = idle.back();
    idle.pop_back();
    return fibre;
}

void sync_threads(int line) {
    threads[current].barrier = line;
    wait();
}

// ------------------------------------------------------------------------------- warps

static unsigned lanes_there(int warp) {
    const int count = thread_count - warp * LANES;
    return count >= LANES ? 0xffffffffu : (1u << count) - 1;
}

static int source_lane(Collective what, int lane, int operand, int width) {
    const int first = lane & ~(width - 1), last = lane | (width - 1);
    switch (what) {
        case Collective::shuffle: return first | (operand & (width - 1));
        case Collective::shuffle_up: return lane - operand < first ? lane : lane - operand;
        case Collective::shuffle_down: return lane + operand > last ? lane : lane + operand;
        default: return (lane ^ operand) > last ? lane : lane ^ operand;
    }
}

static void shuffle_all(Warp& warp, unsigned mask, Collective what) {
    for (int lane = 0; lane < LANES; lane++) {
        if (!(mask >> lane & 1)) continue;
        Shuffle& own = *static_cast<Shuffle*>(warp.lanes[lane].payload);
        if (own.width < 1 || own.width > LANES || (own.width & (own.width - 1)))
            fail("the width of a shuffle must be a power of two up to 32, found %d", own.width);
        const int source = source_lane(what, lane, own.operand, own.width);
        if (source < 0 || source >= LANES || !(mask >> source & 1))
            fail("lane %d reads from lane %d, which takes no part in the shuffle in line %d", lane, source,
                 warp.lanes[lane].line);
        own.result = static_cast<Shuffle*>(warp.lanes[source].payload)->value;
    }
}

static float as_tf32(unsigned bits) {
    bits &= 0xffffe000u;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// mma.m16n8k8: with g = lane / 4 and i = lane % 4 a lane holds
//   a: (g, i), (g + 8, i), (g, i + 4), (g + 8, i + 4)    b: (i, g), (i + 4, g)
//   d: (g, 2i), (g, 2i + 1), (g + 8, 2i), (g + 8, 2i + 1)
static void multiply_all(Warp& warp) {
    float a[16][8], b[8][8], d[16][8];
    for (int lane = 0; lane < LANES; lane++) {
        const Multiply& own = *static_cast<Multiply*>(warp.lanes[lane].payload);
        const int g = lane / 4, i = lane % 4;
        for (int k = 0; k < 4; k++) a[g + k % 2 * 8][i + k / 2 * 4] = as_tf32(own.a[k]);
        for (int k = 0; k < 2; k++) b[i + k * 4][g] = as_tf32(own.b[k]);
        for (int k = 0; k < 4; k++) d[g + k / 2 * 8][2 * i + k % 2] = own.d[k];
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 8; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < LANES; lane++) {
        const Multiply& own = *static_cast<Multiply*>(warp.lanes[lane].payload);
        for (int k = 0; k < 4; k++) own.d[k] = d[lane / 4 + k / 2 * 8][2 * (lane % 4) + k % 2];
    }
}

// Lanes that have met go on; the current one does so at once.
static void release_lanes(int warp, unsigned mask) {
    const size_t first = ready.size();
    for (int lane = 0; lane < LANES; lane++)
        if (mask >> lane & 1 && warp * LANES + lane != current) {
            ready.push_back(warp * LANES + lane);
            for (size_t at = ready.size() - 1; at > first && rank[ready[at - 1]] > rank[ready[at]]; at--)
                std::swap(ready[at - 1], ready[at]);
        }
}

void collective(Collective what, unsigned mask, int line, void* payload) {
    const int own = current % LANES, number = current / LANES;
    Warp& warp = warps[number];
    if (!(mask >> own & 1)) fail("lane %d is not in its own mask %08x in line %d", own, mask, line);
    const unsigned there = lanes_there(number);
    warp.lanes[own] = {what, mask, line, payload};
    warp.waiting |= 1u << own;
    if ((warp.waiting & mask & there) != (mask & there)) {
        wait();
        return;
    }
    for (int lane = 0; lane < LANES; lane++)
        if (mask & there & 1u << lane) {
            const Lane& other = warp.lanes[lane];
            if (other.what != what || other.mask != mask || other.line != line)
                fail("lane %d of warp %d is in line %d with mask %08x, lane %d in line %d with mask %08x", own, number,
                     line, mask, lane, other.line, other.mask);
        }
    if (what == Collective::multiply) {
        if (there != 0xffffffffu) fail("mma needs a whole warp, found %u threads in line %d", thread_count % 32u, line);
        multiply_all(warp);
    } else if (what != Collective::sync_warp) {
        shuffle_all(warp, mask & there, what);
    }
    warp.waiting &= ~mask;
    checks_meet(number, mask & there);
    release_lanes(number, mask & there);
}

// ------------------------------------------------------------------------------- memory

void* dynamic_shared_memory() { return dynamic_memory; }

// As many accesses as a copy is; it is counted where it is issued.
static void watch_copy(const AsyncCopy& copy, bool counted) {
    const int before = launch.counted;
    launch.counted = before && counted;
    if (copy.copy) checks_access(copy.global, 16, false, copy.site);
    checks_access(copy.shared, 16, true, copy.site);
    launch.counted = before;
}

static void perform(const AsyncCopy& copy) {
    if (copy.copy)
        memcpy(copy.shared, copy.global, 16);
    else
        memset(copy.shared, 0, 16);
}

void copy_async_issue(void* shared, const void* global, bool copy) {
    Thread& thread = threads[current];
    const AsyncCopy issued = {static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global), copy,
                              thread.group, reinterpret_cast<uint64_t>(__builtin_return_address(0))};
    watch_copy(issued, true);
    if (launch.early_copies) return perform(issued);
    checks_under_way(shared);
    memset(shared, POISON, 16);
    thread.copies.push_back(issued);
}

void copy_async_close() { threads[current].group++; }

// Does the copies that a wait covers now, at the latest moment that a device may.
void copy_async_complete(int still_under_way) {
    Thread& thread = threads[current];
    size_t kept = 0;
    for (const AsyncCopy& copy : thread.copies)
        if (copy.group < thread.group - still_under_way) {
            watch_copy(copy, false);
            perform(copy);
        } else {
            thread.copies[kept++] = copy;
        }
    thread.copies.resize(kept);
}

// ------------------------------------------------------------------------------- blocks

static void start_block(uint64_t block) {
    const uint64_t row = block / gridDim.x;
    blockIdx = {unsigned(block % gridDim.x), unsigned(row % gridDim.y), unsigned(row / gridDim.y)};
    if (launch.shared) memset(launch.shared, POISON, launch.shared_end - launch.shared);
    if (launch.dynamic_bytes) memset(dynamic_memory, POISON, launch.dynamic_bytes);
    for (int t = 0; t < thread_count; t++) {
        threads[t].fibre = nullptr;
        threads[t].barrier = threads[t].group = 0;
        threads[t].done = false;
        threads[t].copies.clear();
    }
    for (Warp& warp : warps) warp.waiting = 0;
    done_count = 0;
    checks_start_block();
    all_are_ready();
}

static void run_block(uint64_t block) {
    start_block(block);
    become(take());
    Fibre* first = threads[current].fibre = idle_fibre();
    switch_fibre(&home, first);
}

static void abandon_fibres() {
    for (int t = 0; t < thread_count; t++) {
        Fibre* fibre = threads[t].fibre;
        bool seen = fibre == nullptr;
        for (Fibre* other : idle) seen = seen || other == fibre;
        if (seen) continue;
        restart_fibre(fibre);
        idle.push_back(fibre);
    }
}

static void prepare() {
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    thread_count = int(blockDim.x * blockDim.y * blockDim.z);
    random_state = launch.seed;
    failed = false;
    turn.resize(thread_count);
    rank.resize(thread_count);
    put_in_order(turn);
    for (int t = 0; t < thread_count; t++) {
        rank[turn[t]] = t;
        threads[t].place = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    }
    report = {};
    checks_start_launch();
    counts_start();
}

}  // namespace cuda_emulator

using namespace cuda_emulator;

// 0, or 1 for an error that emulator_message tells.
extern "C" int emulator_launch(const Launch* asked) {
    launch = *asked;
    void* dynamic = nullptr;
    if (launch.dynamic_bytes && posix_memalign(&dynamic, 128, launch.dynamic_bytes)) abort();
    dynamic_memory = static_cast<unsigned char*>(dynamic);
    prepare();
    std::vector<uint64_t> blocks(uint64_t(gridDim.x) * gridDim.y * gridDim.z);
    put_in_order(blocks);
    for (uint64_t block : blocks) {
        run_block(block);
        if (failed) break;
        if (launch.counted) counts_flush();
    }
    free(dynamic);
    if (failed) abandon_fibres();
    return failed;
}

extern "C" const Report* emulator_report() { return &report; }
