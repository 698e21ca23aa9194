// What the parts of the stand-in driver share: results, settings, counters, errors, the lock around every call.
//
// The driver runs everything on the calling thread.  With lazy streams, work waits in queues until somebody must see
// its result; then it runs, in an order that CUDA would have allowed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <string>

#define API extern "C" __attribute__((visibility("default")))

namespace emulation {

typedef uintptr_t DevicePointer;

// The values are those of CUresult in NVIDIA's cuda.h.
enum Result : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    CONTEXT_IS_DESTROYED = 709,
    ASSERT = 710,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_UNJOINED = 904,
    CAPTURE_IMPLICIT = 906,
    GRAPH_EXEC_UPDATE_FAILURE = 910,
};

struct Settings {
    long order = 0;   // of threads and blocks: 0 forward, 1 backward, 2 random
    long lazy = 0;    // streams: 0 at once, 1 as late as allowed, 2 at random times
    long poison = 1;  // fresh memory is NaN, and written margins are reported
    long align = 16;  // of allocations; what is left of it lies between an allocation's end and its guard page
    long devices = 1;
    long total_memory = 8L << 30;  // of each device
    long capability = 90;
    long fail_launch = -1;  // this many launches succeed, then one fails; -1 for none
    long verbose = 0;
};

struct Counters {
    uint64_t launches, graph_launches, graph_nodes, copies_to_device, copies_to_host, copies_on_device, allocations;
    uint64_t bytes_live, bytes_peak;
};

extern Settings settings;
extern Counters counters;
extern std::map<std::string, uint64_t> launches_by_name;
extern std::mt19937 random_numbers;
extern std::recursive_mutex driver_lock;

// A fault in a kernel: every later call answers with it, as a real context does.
extern Result fault;

// Notes the message for the exception that Python will raise, and returns the result.
__attribute__((format(printf, 2, 3))) Result fail(Result result, const char* format, ...);

// Keeps the last message for tests to ask for: what is found in a call whose errors nobody sees, as when Python frees.
void report_last_message();

struct Device {
    int index;
    size_t bytes_live = 0;
};

struct Context {
    Device* device;
    bool primary;
    bool alive = true;
    int references = 0;
};

Context* current_context();                         // null if this thread has none
Context* context_of_device(int index);              // the device's primary context
bool is_context(const Context* context);            // a living one
Result check_initialized();                         // also fails in a child of the process that called cuInit

// Runs the body of a call that needs no context.
template <class Body>
Result in_driver(Body body) {
    std::lock_guard<std::recursive_mutex> guard(driver_lock);
    if (Result result = check_initialized()) return result;
    return body();
}

// Runs the body of a call that needs one, also after a fault: what was allocated must be freed.
template <class Body>
Result in_context_even_faulted(Body body) {
    return in_driver([&]() -> Result {
        Context* context = current_context();
        if (!context) return fail(INVALID_CONTEXT, "no context is current on this thread");
        if (!context->alive) return fail(CONTEXT_IS_DESTROYED, "the current context has been destroyed");
        return body(*context);
    });
}

// Runs the body of a call that needs a context without a fault.
template <class Body>
Result in_context(Body body) {
    return in_context_even_faulted([&](Context& context) { return fault ? fault : body(context); });
}

}  // namespace emulation
