// Memory accesses put together to the instructions of warps, and counted as a device would serve them.
//
// The accesses of a warp's lanes that stem from the same place in the code, and are each lane's n-th there since the
// threads last met, are one instruction.
#include <algorithm>
#include <unordered_map>

#include "state.hpp"

namespace cuda_emulator {

constexpr uint64_t SECTOR = 32, LINE = 128;  // bytes
constexpr int BANKS = 32;

struct Instruction {
    uint32_t lanes;
    uint64_t address[LANES];
};

// What Python reads: the same fields in the same order as in counting.py.
struct SiteCounts {
    uint64_t site;
    uint64_t shared, write, size;  // of the memory, whether stored, bytes of one lane's access
    uint64_t instructions, accesses, touched;  // touched: different bytes of each instruction
    uint64_t sectors, lines;
    uint64_t wavefronts, passes, worst;  // passes: wavefronts if no two words lay in one bank; worst: of any pass
};

struct Site {
    SiteCounts counts;
    std::vector<uint32_t> executed;                // by thread
    std::vector<std::vector<Instruction>> warps;   // those not yet counted
};

static std::vector<Site> sites;
static std::unordered_map<uint64_t, size_t> known;
static std::vector<SiteCounts> results;

void counts_start() {
    sites.clear();
    known.clear();
}

void counts_access(uint64_t address, uint64_t size, bool write, bool shared, uint64_t place) {
    const uint64_t key = place * 4 + write * 2 + shared;
    const auto [found, fresh] = known.try_emplace(key, sites.size());
    if (fresh) {
        sites.emplace_back();
        sites.back().counts = {place, shared, write, size, 0, 0, 0, 0, 0, 0, 0, 0};
        sites.back().executed.resize(MOST_THREADS);
        sites.back().warps.resize(MOST_THREADS / LANES);
    }
    Site& site = sites[found->second];
    std::vector<Instruction>& warp = site.warps[current / LANES];
    const uint32_t number = site.executed[current]++;
    if (number >= warp.size()) warp.resize(number + 1);
    warp[number].lanes |= 1u << current % LANES;
    warp[number].address[current % LANES] = address;
}

static void count_global(SiteCounts& counts, std::vector<uint64_t>& addresses) {
    std::sort(addresses.begin(), addresses.end());
    uint64_t end = 0, sector = 0, line = 0;  // past the last that has been counted
    for (const uint64_t address : addresses) {
        const uint64_t first = std::max(address, end), past = address + counts.size;
        if (past <= first) continue;
        counts.touched += past - first;
        const uint64_t first_sector = std::max(first / SECTOR, sector), first_line = std::max(first / LINE, line);
        sector = (past - 1) / SECTOR + 1;
        line = (past - 1) / LINE + 1;
        counts.sectors += sector - std::min(first_sector, sector);
        counts.lines += line - std::min(first_line, line);
        end = past;
    }
}

// How many wavefronts some lanes need: in each, every bank gives one word, to all who want it.
static uint64_t wavefronts_of(const std::vector<uint64_t>& addresses, uint64_t size) {
    std::vector<uint64_t> words;
    for (const uint64_t address : addresses)
        for (uint64_t word = address / 4; word <= (address + size - 1) / 4; word++) words.push_back(word);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    uint64_t in_bank[BANKS] = {}, most = 0;
    for (const uint64_t word : words) most = std::max(most, ++in_bank[word % BANKS]);
    return most;
}

// 16 bytes are served to a quarter of a warp at a time, 8 bytes to a half.
static void count_shared(SiteCounts& counts, const Instruction& instruction) {
    const int together = counts.size <= 4 ? LANES : counts.size <= 8 ? LANES / 2 : LANES / 4;
    for (int first = 0; first < LANES; first += together) {
        std::vector<uint64_t> addresses;
        for (int lane = first; lane < first + together; lane++)
            if (instruction.lanes >> lane & 1) addresses.push_back(instruction.address[lane]);
        if (addresses.empty()) continue;
        const uint64_t wavefronts = wavefronts_of(addresses, counts.size);
        counts.passes++;
        counts.wavefronts += wavefronts;
        counts.worst = std::max(counts.worst, wavefronts);
    }
}

static void count(SiteCounts& counts, const Instruction& instruction) {
    std::vector<uint64_t> addresses;
    for (int lane = 0; lane < LANES; lane++)
        if (instruction.lanes >> lane & 1) addresses.push_back(instruction.address[lane]);
    counts.instructions++;
    counts.accesses += addresses.size();
    if (counts.shared)
        count_shared(counts, instruction);
    else
        count_global(counts, addresses);
}

void counts_flush() {
    for (Site& site : sites) {
        for (std::vector<Instruction>& warp : site.warps) {
            for (const Instruction& instruction : warp) count(site.counts, instruction);
            warp.clear();
        }
        std::fill(site.executed.begin(), site.executed.end(), 0);
    }
}

}  // namespace cuda_emulator

using namespace cuda_emulator;

// Those of the last launch; sets how many there are.
extern "C" const SiteCounts* emulator_counts(uint64_t* number) {
    results.clear();
    for (const Site& site : sites) results.push_back(site.counts);
    *number = results.size();
    return results.data();
}
