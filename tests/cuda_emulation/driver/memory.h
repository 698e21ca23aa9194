// Device memory: each allocation lies between two ranges of 64 KB that may not be touched, its end as near to the second
// as its alignment allows.  Fresh memory is all ones, which is NaN in every floating-point format.
#pragma once
#include <string>

#include "driver.h"

namespace emulation {

struct Allocation {
    DevicePointer begin;
    size_t bytes;
    uint64_t number;     // in the order of their making, for messages
    Context* context;
    char* region;        // the mapping that it lies in, with both guards; null for a module's variables
    size_t region_bytes;
};

Result allocate(Context& context, size_t bytes, DevicePointer* pointer);
Result release(DevicePointer pointer);          // reports bytes that were written before or behind it
void free_memory_of(Context* context);          // what a destroyed context leaves behind

// A module's __device__ and __constant__ variables are device memory too.
void add_variable(Context& context, DevicePointer begin, size_t bytes);
void remove_variables(DevicePointer begin, DevicePointer end);

const Allocation* find_allocation(DevicePointer pointer);  // the one that holds this byte, or null

// Fails with the call's name unless the range lies inside one allocation.
Result check_range(const char* call, DevicePointer begin, size_t bytes);

bool is_pinned(const void* host, size_t bytes);

// What an address that may not be touched is near to: "4 bytes past the end of allocation #3 of 4000 bytes".
std::string describe_address(DevicePointer address);

}  // namespace emulation
