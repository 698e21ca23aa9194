// What compiled kernels and the stand-in driver (driver/) agree on.  Included by both sides.
//
// A compiled kernel file is a shared object.  Every kernel in it has a KernelRecord named kernel_record_NAME, and its
// code calls the functions below, which the driver has, whenever threads must wait for one another.
#pragma once
#include <cstddef>
#include <cstdint>

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

constexpr uint32_t KERNEL_RECORD_MAGIC = 0x43554441;

struct KernelRecord {
    uint32_t magic;
    uint32_t parameter_count;
    const char* name;
    void (*call)(void* function, const char* parameters);  // one thread, from its first line to its last
    void* function;
    const uint32_t* parameter_offsets;
    const uint32_t* parameter_sizes;
    uint32_t parameter_bytes;
    uint32_t max_threads;  // of a block, from __launch_bounds__
};

// What the last lane to arrive computes for all of them.  lanes[i] is what lane i brought, on its own stack, or null.
typedef void (*WarpOperation)(unsigned mask, void** lanes);

// How a barrier combines the threads' predicates.
enum BarrierKind : int { BARRIER_PLAIN, BARRIER_COUNT, BARRIER_AND, BARRIER_OR };

extern "C" {
extern uint3 emulated_thread_index, emulated_block_index;
extern dim3 emulated_block_size, emulated_grid_size;

int emulated_lane(void);
unsigned emulated_live_lanes(void);

// Waits for all threads of the block.  Threads must wait at the same site: a number that tells the calls in a file
// apart, with the line in its lower 20 bits.
int emulated_barrier(uint64_t site, BarrierKind kind, int predicate);

// Waits for the lanes of the mask that have not returned, all of which must call the same operation.
void emulated_warp_operation(unsigned mask, WarpOperation operation, void* mine);

void* emulated_dynamic_shared(void);                        // ends at a page that may not be touched
void emulated_register_shared(void* array, size_t bytes);   // filled with NaN before each block

// An asynchronous copy takes place only when it is waited for: whoever reads too early reads what was there before.
void emulated_copy_async(void* to, const void* from, unsigned bytes, unsigned source_bytes);
void emulated_copy_async_commit(void);
void emulated_copy_async_wait(int groups_still_running);

[[noreturn]] void emulated_trap(const char* message);  // ends the launch with an error
}
