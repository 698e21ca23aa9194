// Copies between host and device, and memory filled with a value.
#include <algorithm>
#include <cstring>
#include <memory>

#include "graphs.h"
#include "memory.h"

namespace emulation {

static void* at(DevicePointer pointer) { return reinterpret_cast<void*>(pointer); }

static Result check_not_capturing_copy() { return check_not_capturing("a copy that waits"); }

template <class Value>
static Result fill(const char* call, DevicePointer to, Value value, size_t count, Stream* stream) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_range(call, to, count * sizeof(Value))) return result;
        return enqueue(stream, Node{MEMSET_NODE, [=] {
                           std::fill_n(static_cast<Value*>(at(to)), count, value);
                           return SUCCESS;
                       }});
    });
}

}  // namespace emulation

using namespace emulation;

API Result cuMemcpyHtoD_v2(DevicePointer to, const void* from, size_t bytes) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_not_capturing_copy()) return result;
        if (Result result = check_range("a copy to the device", to, bytes)) return result;
        if (Result result = synchronize_default()) return result;
        counters.copies_to_device++;
        memcpy(at(to), from, bytes);
        return SUCCESS;
    });
}

API Result cuMemcpyDtoH_v2(void* to, DevicePointer from, size_t bytes) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_not_capturing_copy()) return result;
        if (Result result = check_range("a copy to the host", from, bytes)) return result;
        if (Result result = synchronize_default()) return result;
        counters.copies_to_host++;
        memcpy(to, at(from), bytes);
        return SUCCESS;
    });
}

API Result cuMemcpyDtoD_v2(DevicePointer to, DevicePointer from, size_t bytes) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_not_capturing_copy()) return result;
        if (Result result = check_range("a copy on the device", to, bytes)) return result;
        if (Result result = check_range("a copy on the device", from, bytes)) return result;
        if (Result result = synchronize_default()) return result;
        counters.copies_on_device++;
        memmove(at(to), at(from), bytes);
        return SUCCESS;
    });
}

// From pinned memory the bytes are read when the copy takes place: whoever changes them earlier loses.  From ordinary
// memory the driver takes a copy at once.
API Result cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, size_t bytes, Stream* stream) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_range("a copy to the device", to, bytes)) return result;
        counters.copies_to_device++;
        if (is_pinned(from, bytes) || captures(stream))
            return enqueue(stream, Node{COPY_NODE, [=] {
                               memcpy(at(to), from, bytes);
                               return SUCCESS;
                           }});
        auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
        return enqueue(stream, Node{COPY_NODE, [=] {
                           memcpy(at(to), staged->data(), bytes);
                           return SUCCESS;
                       }});
    });
}

// To ordinary memory the call returns when the bytes are there.
API Result cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, size_t bytes, Stream* stream) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_range("a copy to the host", from, bytes)) return result;
        counters.copies_to_host++;
        Result result = enqueue(stream, Node{COPY_NODE, [=] {
                                    memcpy(to, at(from), bytes);
                                    return SUCCESS;
                                }});
        return result || !stream || captures(stream) || is_pinned(to, bytes) ? result : drain(stream);
    });
}

API Result cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, size_t bytes, Stream* stream) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_range("a copy on the device", to, bytes)) return result;
        if (Result result = check_range("a copy on the device", from, bytes)) return result;
        counters.copies_on_device++;
        return enqueue(stream, Node{COPY_NODE, [=] {
                           memmove(at(to), at(from), bytes);
                           return SUCCESS;
                       }});
    });
}

API Result cuMemcpyPeer(DevicePointer to, Context*, DevicePointer from, Context*, size_t bytes) {
    return cuMemcpyDtoD_v2(to, from, bytes);
}
API Result cuMemcpyPeerAsync(DevicePointer to, Context*, DevicePointer from, Context*, size_t bytes, Stream* stream) {
    return cuMemcpyDtoDAsync_v2(to, from, bytes, stream);
}

API Result cuMemsetD8_v2(DevicePointer to, unsigned char value, size_t count) {
    return fill("cuMemsetD8", to, value, count, nullptr);
}
API Result cuMemsetD16_v2(DevicePointer to, unsigned short value, size_t count) {
    return fill("cuMemsetD16", to, value, count, nullptr);
}
API Result cuMemsetD32_v2(DevicePointer to, unsigned value, size_t count) {
    return fill("cuMemsetD32", to, value, count, nullptr);
}
API Result cuMemsetD8Async(DevicePointer to, unsigned char value, size_t count, Stream* stream) {
    return fill("cuMemsetD8Async", to, value, count, stream);
}
API Result cuMemsetD16Async(DevicePointer to, unsigned short value, size_t count, Stream* stream) {
    return fill("cuMemsetD16Async", to, value, count, stream);
}
API Result cuMemsetD32Async(DevicePointer to, unsigned value, size_t count, Stream* stream) {
    return fill("cuMemsetD32Async", to, value, count, stream);
}
