// Runs the threads of one block, one after the other, each until it must wait for others.
#pragma once
#include <string>

#include "launch.h"

namespace emulation {

void begin_launch(const Launch& launch);
Result run_block();            // of emulated_block_index, which the caller sets
void abandon_block();          // after a fault: the threads that waited are forgotten
void forget_shared_arrays(const KernelRecord* record);
size_t static_shared_bytes(const KernelRecord* record);

std::string where();           // "kernel f block (0,0,0) thread (3,0,0)"
std::string describe_shared_address(const void* address);  // empty if it is not near the dynamic shared memory

}  // namespace emulation
