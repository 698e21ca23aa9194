// Checks a launch as a GPU would, and runs the blocks of its grid.
#include "launch.h"

#include <numeric>

#include "block.h"
#include "faults.h"

namespace emulation {

Result check_launch(const Launch& launch) {
    const KernelRecord& record = *launch.function->record;
    const char* name = record.name;
    auto [gx, gy, gz] = launch.grid;
    auto [bx, by, bz] = launch.block;
    if (!gx || !gy || !gz || gx > 2147483647u || gy > 65535 || gz > 65535)
        return fail(INVALID_VALUE, "%s: bad grid (%u,%u,%u)", name, gx, gy, gz);
    uint64_t count = uint64_t(bx) * by * bz;
    if (!count || bx > 1024 || by > 1024 || bz > 64 || count > 1024)
        return fail(INVALID_VALUE, "%s: bad block (%u,%u,%u)", name, bx, by, bz);
    if (count > record.max_threads)
        return fail(INVALID_VALUE, "%s: a block of %lu threads, but __launch_bounds__(%u)", name, count,
                    record.max_threads);
    if (launch.dynamic_shared > launch.function->dynamic_shared_limit)
        return fail(INVALID_VALUE,
                    "%s: %u bytes of dynamic shared memory, limit %u (up to %u can be asked for with "
                    "MAX_DYNAMIC_SHARED_SIZE_BYTES)",
                    name, launch.dynamic_shared, launch.function->dynamic_shared_limit, DYNAMIC_SHARED_MOST);
    return SUCCESS;
}

// Block i of the order runs as block (i * step + start) % count; a step without a common divisor visits all of them.
struct BlockOrder {
    uint64_t count, step = 1, start = 0;

    explicit BlockOrder(uint64_t count) : count(count) {
        if (settings.order == 1) {
            step = count - 1;
            start = count - 1;
        } else if (settings.order == 2 && count > 1) {
            do step = random_numbers() % count;
            while (std::gcd(step, count) != 1);
            start = random_numbers() % count;
        }
    }

    uint64_t operator[](uint64_t i) const { return (static_cast<unsigned __int128>(i) * step + start) % count; }
};

static Result run_blocks(const Launch& launch) {
    const dim3& grid = launch.grid;
    BlockOrder order(uint64_t(grid.x) * grid.y * grid.z);
    for (uint64_t i = 0; i < order.count; ++i) {
        uint64_t block = order[i], row = block / grid.x;
        emulated_block_index = {unsigned(block % grid.x), unsigned(row % grid.y), unsigned(row / grid.y)};
        if (Result result = run_block()) return result;
    }
    return SUCCESS;
}

Result run_launch(const Launch& launch) {
    counters.launches++;
    launches_by_name[launch.function->record->name]++;
    watch_signals();
    begin_launch(launch);
    volatile Result result = SUCCESS;
    if (sigsetjmp(fault_exit, 1) == 0) {
        kernel_runs = true;
        result = run_blocks(launch);
        kernel_runs = false;
    } else {
        kernel_runs = false;
        result = explain_fault();
    }
    if (result) {
        abandon_block();
        fault = result;
    }
    return result;
}

}  // namespace emulation
