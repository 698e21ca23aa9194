// Devices and contexts.  Each thread has a stack of contexts of its own, as in CUDA.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>
#include <vector>

#include "driver.h"
#include "memory.h"
#include "streams.h"

namespace emulation {

static pid_t initialized_by = 0;
static thread_local std::vector<Context*> context_stack;

static Device& device_at(int index) {
    static std::map<int, Device> devices;
    return devices.try_emplace(index, Device{index}).first->second;
}

// Contexts are never deleted, so that a handle of a destroyed one can be recognized.
static std::deque<Context>& all_contexts() {
    static std::deque<Context> contexts;
    return contexts;
}

static Context* new_context(int device, bool primary) {
    return &all_contexts().emplace_back(Context{&device_at(device), primary});
}

Context* context_of_device(int index) {
    static std::map<int, Context*> primaries;
    Context*& context = primaries[index];
    if (!context || !context->alive) context = new_context(index, true);
    return context;
}

static void destroy(Context* context) {
    destroy_streams_of(context);
    free_memory_of(context);
    context->alive = false;
    auto& stack = context_stack;
    if (!context->primary) stack.erase(std::remove(stack.begin(), stack.end(), context), stack.end());
}

Context* current_context() { return context_stack.empty() ? nullptr : context_stack.back(); }

bool is_context(const Context* context) {
    for (const Context& known : all_contexts())
        if (&known == context) return known.alive;
    return false;
}

Result check_initialized() {
    if (!initialized_by) return fail(NOT_INITIALIZED, "cuInit has not been called");
    if (initialized_by != getpid())
        return fail(NOT_INITIALIZED, "CUDA was initialized before this process was forked; it cannot be used here");
    return SUCCESS;
}

static Result check_device(int index) {
    bool exists = index >= 0 && index < settings.devices;
    return exists ? SUCCESS : fail(INVALID_DEVICE, "device %d does not exist; there are %ld", index, settings.devices);
}

// An H200's answers, by CUdevice_attribute.
static int device_attribute(int attribute) {
    static const std::map<int, int> answers = {
        {1, 1024},      // threads of a block
        {2, 1024},      // block x
        {3, 1024},      // block y
        {4, 64},        // block z
        {5, 2147483647},  // grid x
        {6, 65535},     // grid y
        {7, 65535},     // grid z
        {8, 49152},     // shared memory of a block
        {9, 65536},     // constant memory
        {10, 32},       // warp size
        {12, 65536},    // registers of a block
        {13, 1980000},  // clock, kHz
        {14, 512},      // texture alignment
        {16, 132},      // multiprocessors
        {31, 1},        // concurrent kernels
        {36, 3201000},  // memory clock, kHz
        {37, 6144},     // memory bus, bits
        {38, 62914560},  // L2 cache
        {39, 2048},     // threads of a multiprocessor
        {40, 3},        // copy engines
        {41, 1},        // unified addressing
        {81, 233472},   // shared memory of a multiprocessor
        {82, 65536},    // registers of a multiprocessor
        {97, 232448},   // shared memory of a block, at most
        {106, 32},      // blocks of a multiprocessor
        {111, 1024},    // reserved shared memory of a block
        {115, 1},       // memory pools
    };
    if (attribute == 75) return settings.capability / 10;
    if (attribute == 76) return settings.capability % 10;
    auto found = answers.find(attribute);
    return found == answers.end() ? 0 : found->second;
}

}  // namespace emulation

using namespace emulation;

API Result cuInit(unsigned) {
    if (initialized_by && initialized_by != getpid()) return check_initialized();
    if (!settings.devices) return fail(NO_DEVICE, "the emulation was told to have no device");
    initialized_by = getpid();
    return SUCCESS;
}

API Result cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}

API Result cuDeviceGetCount(int* count) {
    return in_driver([&] {
        *count = settings.devices;
        return SUCCESS;
    });
}

API Result cuDeviceGet(int* device, int index) {
    return in_driver([&] {
        *device = index;
        return check_device(index);
    });
}

API Result cuDeviceGetName(char* name, int bytes, int device) {
    snprintf(name, bytes, "Emulated GPU (sm_%ld)", settings.capability);
    return check_device(device);
}

API Result cuDeviceComputeCapability(int* major, int* minor, int device) {
    *major = settings.capability / 10;
    *minor = settings.capability % 10;
    return check_device(device);
}

API Result cuDeviceTotalMem_v2(size_t* bytes, int device) {
    *bytes = settings.total_memory;
    return check_device(device);
}

API Result cuDeviceGetAttribute(int* value, int attribute, int device) {
    *value = device_attribute(attribute);
    return check_device(device);
}

API Result cuDeviceGetPCIBusId(char* text, int bytes, int device) {
    snprintf(text, bytes, "0000:%02x:00.0", device);
    return check_device(device);
}

API Result cuDeviceGetByPCIBusId(int* device, const char* text) {
    unsigned index = 0;
    if (sscanf(text, "0000:%x:00.0", &index) != 1) return INVALID_VALUE;
    *device = index;
    return check_device(index);
}

API Result cuDeviceCanAccessPeer(int* can, int, int) {
    *can = 0;
    return SUCCESS;
}

API Result cuDevicePrimaryCtxRetain(Context** context, int device) {
    return in_driver([&]() -> Result {
        if (Result result = check_device(device)) return result;
        *context = context_of_device(device);
        (*context)->references++;
        return SUCCESS;
    });
}

API Result cuDevicePrimaryCtxRelease_v2(int device) {
    return in_driver([&]() -> Result {
        if (Result result = check_device(device)) return result;
        Context* context = context_of_device(device);
        if (!context->references) return fail(INVALID_CONTEXT, "the primary context is released more often than retained");
        if (--context->references == 0) destroy(context);
        return SUCCESS;
    });
}

API Result cuDevicePrimaryCtxReset_v2(int device) {
    return in_driver([&]() -> Result {
        if (Result result = check_device(device)) return result;
        destroy(context_of_device(device));
        return SUCCESS;
    });
}

API Result cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
    return in_driver([&] {
        *flags = 0;
        *active = context_of_device(device)->references > 0;
        return check_device(device);
    });
}

API Result cuCtxCreate_v2(Context** context, unsigned, int device) {
    return in_driver([&]() -> Result {
        if (Result result = check_device(device)) return result;
        *context = new_context(device, false);
        context_stack.push_back(*context);
        return SUCCESS;
    });
}

API Result cuCtxCreate_v4(Context** context, void*, unsigned flags, int device) {
    return cuCtxCreate_v2(context, flags, device);
}

API Result cuCtxDestroy_v2(Context* context) {
    return in_driver([&]() -> Result {
        if (!is_context(context)) return fail(INVALID_CONTEXT, "the context has been destroyed before");
        destroy(context);
        return SUCCESS;
    });
}

API Result cuCtxAttach(Context** context, unsigned) {
    *context = current_context();
    return *context ? SUCCESS : INVALID_CONTEXT;
}

API Result cuCtxDetach(Context* context) { return cuCtxDestroy_v2(context); }

API Result cuCtxPushCurrent_v2(Context* context) {
    return in_driver([&]() -> Result {
        if (!is_context(context)) return fail(INVALID_CONTEXT, "a destroyed context cannot be made current");
        context_stack.push_back(context);
        return SUCCESS;
    });
}

API Result cuCtxPopCurrent_v2(Context** context) {
    return in_driver([&]() -> Result {
        if (context_stack.empty()) return fail(INVALID_CONTEXT, "no context is current on this thread");
        if (context) *context = context_stack.back();
        context_stack.pop_back();
        return SUCCESS;
    });
}

API Result cuCtxGetCurrent(Context** context) {
    return in_driver([&] {
        *context = current_context();
        return SUCCESS;
    });
}

API Result cuCtxSetCurrent(Context* context) {
    return in_driver([&]() -> Result {
        if (context && !is_context(context)) return fail(INVALID_CONTEXT, "a destroyed context cannot be made current");
        if (!context_stack.empty()) context_stack.pop_back();
        if (context) context_stack.push_back(context);
        return SUCCESS;
    });
}

API Result cuCtxGetDevice(int* device) {
    return in_driver([&]() -> Result {
        Context* context = current_context();
        if (!context) return fail(INVALID_CONTEXT, "no context is current on this thread");
        *device = context->device->index;
        return SUCCESS;
    });
}

API Result cuCtxSynchronize() {
    return in_context([](Context&) { return synchronize_device(); });
}

API Result cuCtxGetApiVersion(Context*, unsigned* version) {
    *version = 13000;
    return SUCCESS;
}

API Result cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0;
    *greatest = -5;
    return SUCCESS;
}

API Result cuCtxGetLimit(size_t* value, int) {
    *value = 1024;
    return SUCCESS;
}

API Result cuCtxSetLimit(int, size_t) { return SUCCESS; }
API Result cuCtxSetCacheConfig(int) { return SUCCESS; }
API Result cuCtxGetCacheConfig(int* config) {
    *config = 0;
    return SUCCESS;
}
API Result cuProfilerStart() { return SUCCESS; }
API Result cuProfilerStop() { return SUCCESS; }
