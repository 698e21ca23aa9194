// The threads of a block run on fibers.  A fiber takes a thread and runs it; a thread that returns without ever having
// waited costs no switch, for its fiber takes the next one.  A thread that must wait leaves its fiber asleep and another
// fiber goes on.  Who runs next is decided by `next_thread`: lanes in the order of the warp, warps in the order of the
// block; both orders are a setting, since a correct kernel gives the same bits in all of them.
#include "block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <vector>

#include "faults.h"
#include "fibers.h"

uint3 emulated_thread_index __attribute__((visibility("default")));
uint3 emulated_block_index __attribute__((visibility("default")));
dim3 emulated_block_size __attribute__((visibility("default")));
dim3 emulated_grid_size __attribute__((visibility("default")));

namespace emulation {

constexpr int LANES = 32, MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / LANES;
constexpr size_t PAGE = 4096, SHARED_BYTES = (DYNAMIC_SHARED_MOST + PAGE - 1) / PAGE * PAGE;

struct AsyncCopy {
    void* to;
    const void* from;
    unsigned bytes, source_bytes;  // the rest is filled with zeros
};

struct Thread {
    uint3 index;
    Fiber* asleep = nullptr;  // where it waits; null if it has not begun
    uint64_t site = 0;        // of the barrier
    int predicate = 0, barrier_result = 0;
    bool at_barrier = false;
    unsigned mask = 0;        // of the warp operation
    WarpOperation operation = nullptr;
    void* lane_data = nullptr;
    std::vector<std::vector<AsyncCopy>> copies;  // by group, the oldest first; the last group is open
};

// One bit per lane, but `ready` one per place in the order of lanes.
struct Warp {
    unsigned live, ready, in_operation;
};

static Thread threads[MOST_THREADS];
static Warp warps[MOST_WARPS];
static int lane_order[LANES], place_of_lane[LANES], warp_order[MOST_WARPS];
static int thread_count, warp_count, warp_place, live_count, barrier_count;
static BarrierKind barrier_kind;
static int current;  // the thread that runs
static Result block_result;

static Fiber launcher;
static Fiber* running = &launcher;
static std::vector<Fiber*> idle_fibers, all_fibers;

static const Launch* launch;
static dim3 indexed_for(0, 0, 0);  // the block size that Thread::index was computed for
static char* shared_memory;        // dynamic; a guard page lies behind it
static std::map<const KernelRecord*, std::map<void*, size_t>> shared_arrays;

std::string where() {
    const uint3 &block = emulated_block_index, &thread = emulated_thread_index;
    char text[256];
    snprintf(text, sizeof text, "kernel %s block (%u,%u,%u) thread (%u,%u,%u)", launch->function->record->name, block.x,
             block.y, block.z, thread.x, thread.y, thread.z);
    return text;
}

std::string describe_shared_address(const void* address) {
    const char *byte = static_cast<const char*>(address), *end = shared_memory + SHARED_BYTES;
    if (byte < end || byte >= end + PAGE) return "";
    return std::to_string(byte - end) + " bytes past the " + std::to_string(launch->dynamic_shared) +
           " bytes of dynamic shared memory";
}

// ---- who runs next

static unsigned places_of(unsigned lanes) {
    if (settings.order == 0) return lanes;
    unsigned places = 0;
    for (; lanes; lanes &= lanes - 1) places |= 1u << place_of_lane[__builtin_ctz(lanes)];
    return places;
}

static void choose_orders() {
    std::iota(lane_order, lane_order + LANES, 0);
    std::iota(warp_order, warp_order + warp_count, 0);
    if (settings.order == 1) {
        std::reverse(lane_order, lane_order + LANES);
        std::reverse(warp_order, warp_order + warp_count);
    } else if (settings.order == 2) {
        std::shuffle(lane_order, lane_order + LANES, random_numbers);
        std::shuffle(warp_order, warp_order + warp_count, random_numbers);
    }
    for (int place = 0; place < LANES; ++place) place_of_lane[lane_order[place]] = place;
}

static Result explain_deadlock() {
    for (int i = 0; i < thread_count; ++i)
        if (warps[i / LANES].in_operation >> i % LANES & 1) {
            emulated_thread_index = threads[i].index;
            break;
        }
    return fail(LAUNCH_FAILED,
                "%s: deadlock: some lanes wait in a warp operation, the others at a barrier or in a different one",
                where().c_str());
}

static Result release_barrier() {
    const Thread* first = nullptr;
    int true_count = 0;
    for (int i = 0; i < thread_count; ++i) {
        Thread& thread = threads[i];
        if (!thread.at_barrier) continue;
        if (!first) first = &thread;
        if (thread.site != first->site) {
            emulated_thread_index = thread.index;
            constexpr uint64_t LINE = (1 << 20) - 1;
            return fail(LAUNCH_FAILED,
                        "%s: divergent __syncthreads(): threads of the block wait in line %lu, others in line %lu",
                        where().c_str(), thread.site & LINE, first->site & LINE);
        }
        true_count += thread.predicate != 0;
    }
    int combined = barrier_kind == BARRIER_COUNT ? true_count
                   : barrier_kind == BARRIER_AND ? true_count == barrier_count
                                                 : true_count > 0;
    for (int i = 0; i < thread_count; ++i) {
        if (!threads[i].at_barrier) continue;
        threads[i].at_barrier = false;
        threads[i].barrier_result = combined;
    }
    for (int w = 0; w < warp_count; ++w) warps[w].ready = places_of(warps[w].live);
    barrier_count = 0;
    warp_place = 0;
    return SUCCESS;
}

// The thread to run now, or -1 when the block has ended, with block_result saying how.
static int next_thread() {
    for (;;) {
        for (; warp_place < warp_count; ++warp_place) {
            int w = warp_order[warp_place];
            if (unsigned ready = warps[w].ready) {
                warps[w].ready = ready & (ready - 1);
                return w * LANES + lane_order[__builtin_ctz(ready)];
            }
        }
        if (!live_count) return -1;
        block_result = barrier_count == live_count ? release_barrier() : explain_deadlock();
        if (block_result) return -1;
    }
}

// ---- fibers

static void fiber_body();

static void become(int thread) {
    current = thread;
    emulated_thread_index = threads[thread].index;
}

static void leave_for(int thread) {
    Fiber* from = running;
    Fiber* to = &launcher;
    if (thread >= 0) {
        to = threads[thread].asleep;
        threads[thread].asleep = nullptr;
        if (!to) {
            if (idle_fibers.empty()) {
                idle_fibers.push_back(new_fiber(fiber_body));
                all_fibers.push_back(idle_fibers.back());
            }
            to = idle_fibers.back();
            idle_fibers.pop_back();
        }
        become(thread);
    }
    running = to;
    switch_fiber(*from, *to);
}

static void wait_for_others() {
    int next = next_thread();
    if (next == current) return;
    threads[current].asleep = running;
    leave_for(next);
}

static bool complete_operation(Warp& warp, Thread* lanes, unsigned mask, WarpOperation operation, unsigned self);

static void finish_thread() {
    threads[current].copies.clear();
    live_count--;
    Warp& warp = warps[current / LANES];
    warp.live &= ~(1u << current % LANES);
    Thread* lanes = threads + current / LANES * LANES;
    for (unsigned waiting = warp.in_operation; waiting; waiting &= waiting - 1) {
        Thread& lane = lanes[__builtin_ctz(waiting)];
        if (warp.in_operation >> (&lane - lanes) & 1)
            complete_operation(warp, lanes, lane.mask, lane.operation, 0);
    }
}

static void fiber_body() {
    for (;;) {
        const Function& function = *launch->function;
        function.record->call(function.record->function, launch->parameters.data());
        finish_thread();
        int next = next_thread();
        if (next >= 0 && !threads[next].asleep) {
            become(next);
            continue;
        }
        idle_fibers.push_back(running);
        leave_for(next);
    }
}

// ---- blocks

void begin_launch(const Launch& begun) {
    if (!shared_memory) {
        void* mapped = mmap(nullptr, SHARED_BYTES + PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        shared_memory = static_cast<char*>(mapped);
        mprotect(shared_memory + SHARED_BYTES, PAGE, PROT_NONE);
    }
    launch = &begun;
    const dim3& size = begun.block;
    emulated_grid_size = begun.grid;
    emulated_block_size = size;
    thread_count = size.x * size.y * size.z;
    warp_count = (thread_count + LANES - 1) / LANES;
    if (memcmp(&indexed_for, &size, sizeof size)) {
        for (unsigned i = 0; i < unsigned(thread_count); ++i)
            threads[i].index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        indexed_for = size;
    }
    choose_orders();
}

static void* dynamic_shared() {
    return shared_memory + SHARED_BYTES - (size_t(launch->dynamic_shared) + 15) / 16 * 16;
}

static void poison_shared_memory() {
    if (!settings.poison) return;
    auto found = shared_arrays.find(launch->function->record);
    if (found != shared_arrays.end())
        for (auto& [array, bytes] : found->second) memset(array, 0xff, bytes);
    if (launch->dynamic_shared) memset(dynamic_shared(), 0xff, launch->dynamic_shared);
}

Result run_block() {
    if (settings.order == 2) choose_orders();
    poison_shared_memory();
    for (int w = 0; w < warp_count; ++w) {
        int lanes = std::min(LANES, thread_count - w * LANES);
        warps[w].live = lanes == LANES ? ~0u : (1u << lanes) - 1;
        warps[w].ready = places_of(warps[w].live);
        warps[w].in_operation = 0;
    }
    live_count = thread_count;
    barrier_count = warp_place = 0;
    block_result = SUCCESS;
    leave_for(next_thread());
    return block_result;
}

void abandon_block() {
    for (Fiber* fiber : all_fibers) restart(*fiber, fiber_body);
    idle_fibers = all_fibers;
    running = &launcher;
    for (Thread& thread : threads) {
        thread.asleep = nullptr;
        thread.at_barrier = false;
        thread.copies.clear();
    }
}

void forget_shared_arrays(const KernelRecord* record) { shared_arrays.erase(record); }

size_t static_shared_bytes(const KernelRecord* record) {
    size_t total = 0;
    for (auto& [array, bytes] : shared_arrays[record]) total += bytes;
    return total;
}

// ---- warp operations

// Does the operation if all lanes of the mask that have not returned wait in it.  `self` is the lane that runs, which
// need not be woken.
static bool complete_operation(Warp& warp, Thread* lanes, unsigned mask, WarpOperation operation, unsigned self) {
    unsigned needed = mask & warp.live;
    if ((warp.in_operation & needed) != needed) return false;
    void* data[LANES] = {};
    for (unsigned rest = needed; rest; rest &= rest - 1) {
        Thread& lane = lanes[__builtin_ctz(rest)];
        if (lane.mask != mask || lane.operation != operation) return false;
        data[__builtin_ctz(rest)] = lane.lane_data;
    }
    operation(needed, data);
    warp.in_operation &= ~needed;
    warp.ready |= places_of(needed & ~self);
    return true;
}

}  // namespace emulation

using namespace emulation;

API int emulated_lane() { return current % LANES; }

API unsigned emulated_live_lanes() { return warps[current / LANES].live; }

API int emulated_barrier(uint64_t site, BarrierKind kind, int predicate) {
    Thread& thread = threads[current];
    thread.at_barrier = true;
    thread.site = site;
    thread.predicate = predicate;
    barrier_kind = kind;
    barrier_count++;
    wait_for_others();
    return thread.barrier_result;
}

API void emulated_warp_operation(unsigned mask, WarpOperation operation, void* mine) {
    Thread& thread = threads[current];
    Warp& warp = warps[current / LANES];
    unsigned self = 1u << current % LANES;
    if (!(mask & self)) emulated_trap("a warp operation whose mask leaves out the lane that calls it");
    thread.mask = mask;
    thread.operation = operation;
    thread.lane_data = mine;
    warp.in_operation |= self;
    if (!complete_operation(warp, threads + current / LANES * LANES, mask, operation, self)) wait_for_others();
}

API void* emulated_dynamic_shared() { return dynamic_shared(); }

API void emulated_register_shared(void* array, size_t bytes) {
    shared_arrays[launch->function->record][array] = bytes;
    if (settings.poison) memset(array, 0xff, bytes);
}

API void emulated_copy_async(void* to, const void* from, unsigned bytes, unsigned source_bytes) {
    auto both = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
    if (both & (bytes - 1)) emulated_trap("an asynchronous copy between addresses that are not aligned to its size");
    auto& copies = threads[current].copies;
    if (copies.empty()) copies.emplace_back();
    copies.back().push_back({to, from, bytes, source_bytes});
}

API void emulated_copy_async_commit() {
    auto& copies = threads[current].copies;
    if (copies.empty()) copies.emplace_back();
    copies.emplace_back();
}

API void emulated_copy_async_wait(int groups_still_running) {
    auto& copies = threads[current].copies;
    while (int(copies.size()) - 1 > groups_still_running) {
        for (const AsyncCopy& copy : copies.front()) {
            memcpy(copy.to, copy.from, copy.source_bytes);
            memset(static_cast<char*>(copy.to) + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
        }
        copies.erase(copies.begin());
    }
}
