// Allocation of device and pinned memory, and what is known about an address.
#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>

#include "streams.h"

namespace emulation {

constexpr size_t PAGE = 4096;
constexpr size_t GUARD = 64 << 10;  // bytes before and behind each allocation that may not be touched
constexpr unsigned char POISON = 0xff;
constexpr size_t QUARANTINE = 1024;  // freed allocations whose addresses are not used again yet

static std::map<DevicePointer, Allocation> allocations;
static std::deque<Allocation> freed;  // the newest first
static std::map<DevicePointer, size_t> pinned;
static uint64_t allocations_made = 0;

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

static void account(Context& context, ptrdiff_t bytes) {
    context.device->bytes_live += bytes;
    counters.bytes_live += bytes;
    counters.bytes_peak = std::max(counters.bytes_peak, counters.bytes_live);
}

Result allocate(Context& context, size_t bytes, DevicePointer* pointer) {
    if (!bytes) return fail(INVALID_VALUE, "an allocation of 0 bytes");
    size_t live = context.device->bytes_live, total = settings.total_memory;
    if (bytes > total || live > total - bytes)
        return fail(OUT_OF_MEMORY, "%zu bytes asked for, %zu of %zu in use", bytes, live, total);
    size_t body = round_up(bytes, PAGE), region_bytes = body + 2 * GUARD;
    void* mapped = mmap(nullptr, region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return fail(OUT_OF_MEMORY, "this machine has no %zu bytes", bytes);
    char* region = static_cast<char*>(mapped);
    mprotect(region + GUARD, body, PROT_READ | PROT_WRITE);
    if (settings.poison) memset(region + GUARD, POISON, body);
    size_t taken = std::min(round_up(bytes, settings.align), body);
    *pointer = reinterpret_cast<DevicePointer>(region) + GUARD + body - taken;
    allocations[*pointer] = {*pointer, bytes, ++allocations_made, &context, region, region_bytes};
    counters.allocations++;
    account(context, bytes);
    return SUCCESS;
}

// The margins between an allocation and its guard pages still hold what they were filled with, unless somebody wrote.
static Result check_margins(const Allocation& allocation) {
    auto begin = reinterpret_cast<const unsigned char*>(allocation.begin), end = begin + allocation.bytes;
    auto region = reinterpret_cast<const unsigned char*>(allocation.region);
    for (const unsigned char* byte = region + GUARD; byte < begin; ++byte)
        if (*byte != POISON)
            return fail(ILLEGAL_ADDRESS, "allocation #%lu of %zu bytes: the byte %zd before its start was written",
                        allocation.number, allocation.bytes, begin - byte);
    for (const unsigned char* byte = end; byte < region + allocation.region_bytes - GUARD; ++byte)
        if (*byte != POISON)
            return fail(ILLEGAL_ADDRESS, "allocation #%lu of %zu bytes: the byte %zd past its end was written",
                        allocation.number, allocation.bytes, byte - end);
    return SUCCESS;
}

// The addresses stay taken for a while, so that a pointer into freed memory does not find a new allocation there.
static void unmap(const Allocation& allocation) {
    account(*allocation.context, -static_cast<ptrdiff_t>(allocation.bytes));
    mmap(allocation.region, allocation.region_bytes, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    freed.push_front(allocation);
    if (freed.size() > QUARANTINE) {
        munmap(freed.back().region, freed.back().region_bytes);
        freed.pop_back();
    }
}

Result release(DevicePointer pointer) {
    auto found = allocations.find(pointer);
    if (found == allocations.end() || !found->second.region)
        return fail(INVALID_VALUE, "%#lx is freed, and is no allocation: %s", pointer,
                    describe_address(pointer).c_str());
    Result result = settings.poison ? check_margins(found->second) : SUCCESS;
    if (result) report_last_message();
    unmap(found->second);
    allocations.erase(found);
    return result;
}

void free_memory_of(Context* context) {
    for (auto place = allocations.begin(); place != allocations.end();) {
        const Allocation& allocation = place->second;
        if (allocation.context == context && allocation.region) {
            unmap(allocation);
            place = allocations.erase(place);
        } else {
            ++place;
        }
    }
}

void add_variable(Context& context, DevicePointer begin, size_t bytes) {
    allocations.try_emplace(begin, Allocation{begin, bytes, ++allocations_made, &context, nullptr, 0});
}

void remove_variables(DevicePointer begin, DevicePointer end) {
    std::erase_if(allocations, [&](auto& entry) {
        return entry.first >= begin && entry.first < end && !entry.second.region;
    });
}

const Allocation* find_allocation(DevicePointer pointer) {
    auto after = allocations.upper_bound(pointer);
    if (after == allocations.begin()) return nullptr;
    const Allocation& before = std::prev(after)->second;
    return pointer < before.begin + before.bytes ? &before : nullptr;
}

Result check_range(const char* call, DevicePointer begin, size_t bytes) {
    if (!bytes) return SUCCESS;
    const Allocation* allocation = find_allocation(begin);
    if (!allocation)
        return fail(INVALID_VALUE, "%s: %#lx is outside any allocation: %s", call, begin,
                    describe_address(begin).c_str());
    size_t available = allocation->begin + allocation->bytes - begin;
    if (bytes > available)
        return fail(INVALID_VALUE, "%s: %zu bytes reach outside any allocation: allocation #%lu ends after %zu", call,
                    bytes, allocation->number, available);
    return SUCCESS;
}

bool is_pinned(const void* host, size_t bytes) {
    auto address = reinterpret_cast<DevicePointer>(host);
    auto after = pinned.upper_bound(address);
    if (after == pinned.begin()) return false;
    auto [begin, length] = *std::prev(after);
    return address + bytes <= begin + length;
}

std::string describe_address(DevicePointer address) {
    constexpr size_t NEAR = 64 << 20;
    char text[160] = "not near any allocation";
    size_t nearest = NEAR;
    for (auto& [begin, allocation] : allocations) {
        DevicePointer end = begin + allocation.bytes;
        bool before = address < begin;
        size_t distance = before ? begin - address : address >= end ? address - end : 0;
        if (distance >= nearest) continue;
        nearest = distance;
        snprintf(text, sizeof text, "%zu bytes %s allocation #%lu of %zu bytes", distance,
                 before ? "before the start of" : "past the end of", allocation.number, allocation.bytes);
    }
    for (const Allocation& allocation : freed)
        if (address >= allocation.begin && address < allocation.begin + allocation.bytes)
            snprintf(text, sizeof text, "inside freed allocation #%lu of %zu bytes", allocation.number,
                     allocation.bytes);
    return text;
}

}  // namespace emulation

using namespace emulation;

API Result cuMemAlloc_v2(DevicePointer* pointer, size_t bytes) {
    return in_context([&](Context& context) -> Result {
        if (Result result = check_not_capturing("an allocation")) return result;
        return allocate(context, bytes, pointer);
    });
}

API Result cuMemAllocManaged(DevicePointer* pointer, size_t bytes, unsigned) { return cuMemAlloc_v2(pointer, bytes); }

API Result cuMemAllocPitch_v2(DevicePointer* pointer, size_t* pitch, size_t width, size_t height, unsigned) {
    *pitch = round_up(width, 512);
    return cuMemAlloc_v2(pointer, *pitch * height);
}

// Waits for the work of all streams, as the real call does.
API Result cuMemFree_v2(DevicePointer pointer) {
    return in_context_even_faulted([&](Context&) -> Result {
        if (Result result = check_not_capturing("a free")) return result;
        synchronize_device();
        return release(pointer);
    });
}

API Result cuMemAllocAsync(DevicePointer* pointer, size_t bytes, Stream*) {
    return in_context([&](Context& context) { return allocate(context, bytes, pointer); });
}

API Result cuMemFreeAsync(DevicePointer pointer, Stream* stream) {
    return in_context([&](Context&) { return enqueue(stream, [=] { return release(pointer); }); });
}

API Result cuMemGetInfo_v2(size_t* available, size_t* total) {
    return in_context([&](Context& context) {
        *total = settings.total_memory;
        *available = *total - std::min(*total, context.device->bytes_live);
        return SUCCESS;
    });
}

API Result cuMemGetAddressRange_v2(DevicePointer* begin, size_t* bytes, DevicePointer pointer) {
    return in_context([&](Context&) -> Result {
        const Allocation* allocation = find_allocation(pointer);
        if (!allocation) return fail(INVALID_VALUE, "cuMemGetAddressRange: %s", describe_address(pointer).c_str());
        if (begin) *begin = allocation->begin;
        if (bytes) *bytes = allocation->bytes;
        return SUCCESS;
    });
}

API Result cuPointerGetAttribute(void* data, int attribute, DevicePointer pointer) {
    return in_context([&](Context&) -> Result {
        const Allocation* allocation = find_allocation(pointer);
        bool host = !allocation && is_pinned(reinterpret_cast<void*>(pointer), 1);
        if (!allocation && !host) return fail(INVALID_VALUE, "cuPointerGetAttribute: %#lx is unknown to CUDA", pointer);
        enum { CONTEXT = 1, MEMORY_TYPE, DEVICE_POINTER, HOST_POINTER, IS_MANAGED = 8, DEVICE_ORDINAL = 9,
               RANGE_START = 11, RANGE_SIZE = 12 };
        switch (attribute) {
            case CONTEXT: *static_cast<Context**>(data) = allocation ? allocation->context : nullptr; return SUCCESS;
            case MEMORY_TYPE: *static_cast<unsigned*>(data) = host ? 1 : 2; return SUCCESS;
            case DEVICE_POINTER: *static_cast<DevicePointer*>(data) = pointer; return SUCCESS;
            case HOST_POINTER: *static_cast<DevicePointer*>(data) = pointer; return host ? SUCCESS : INVALID_VALUE;
            case IS_MANAGED: *static_cast<unsigned*>(data) = 0; return SUCCESS;
            case DEVICE_ORDINAL: *static_cast<int*>(data) = allocation ? allocation->context->device->index : 0; return SUCCESS;
            case RANGE_START: *static_cast<DevicePointer*>(data) = allocation ? allocation->begin : pointer; return SUCCESS;
            case RANGE_SIZE: *static_cast<size_t*>(data) = allocation ? allocation->bytes : 0; return SUCCESS;
        }
        return fail(NOT_SUPPORTED, "cuPointerGetAttribute: attribute %d is not emulated", attribute);
    });
}

API Result cuMemHostAlloc(void** host, size_t bytes, unsigned) {
    return in_context([&](Context&) -> Result {
        *host = aligned_alloc(PAGE, round_up(std::max<size_t>(bytes, 1), PAGE));
        if (!*host) return fail(OUT_OF_MEMORY, "this machine has no %zu bytes to pin", bytes);
        if (settings.poison) memset(*host, POISON, bytes);
        pinned[reinterpret_cast<DevicePointer>(*host)] = bytes;
        return SUCCESS;
    });
}

API Result cuMemFreeHost(void* host) {
    return in_context_even_faulted([&](Context&) -> Result {
        synchronize_device();
        if (!pinned.erase(reinterpret_cast<DevicePointer>(host)))
            return fail(INVALID_VALUE, "cuMemFreeHost: %p is no pinned memory", host);
        free(host);
        return SUCCESS;
    });
}

API Result cuMemHostRegister_v2(void* host, size_t bytes, unsigned) {
    return in_context([&](Context&) {
        pinned[reinterpret_cast<DevicePointer>(host)] = bytes;
        return SUCCESS;
    });
}

API Result cuMemHostUnregister(void* host) {
    return in_context_even_faulted([&](Context&) {
        synchronize_device();
        pinned.erase(reinterpret_cast<DevicePointer>(host));
        return SUCCESS;
    });
}

API Result cuMemHostGetDevicePointer_v2(DevicePointer* pointer, void* host, unsigned) {
    *pointer = reinterpret_cast<DevicePointer>(host);
    return SUCCESS;
}

API Result cuMemHostGetFlags(unsigned* flags, void*) {
    *flags = 0;
    return SUCCESS;
}
