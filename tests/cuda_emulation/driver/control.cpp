// The functions by which tests steer the driver (control.py calls them), and CUDA's texts for errors.
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "driver.h"

namespace emulation {

Settings settings;
Counters counters;
std::map<std::string, uint64_t> launches_by_name;
std::mt19937 random_numbers(1);
std::recursive_mutex driver_lock;
Result fault = SUCCESS;

static std::string last_message;
static Result result_of_last_message = SUCCESS;

Result fail(Result result, const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    last_message = text;
    result_of_last_message = result;
    if (settings.verbose) fprintf(stderr, "cuda_emulation: %s\n", text);
    return result;
}

static std::string reports;  // a line each

void report_last_message() { reports += last_message + "\n"; }

struct ErrorText {
    Result result;
    const char *name, *text;
};

static const ErrorText ERROR_TEXTS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {ASSERT, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
     "the capture was not ended: it has a stream that was not joined"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {GRAPH_EXEC_UPDATE_FAILURE, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", "the graph update was not performed"},
};

static const ErrorText* find_text(Result result) {
    for (const ErrorText& entry : ERROR_TEXTS)
        if (entry.result == result) return &entry;
    return nullptr;
}

static long* find_setting(const std::string& name) {
    static const std::map<std::string, long*> all = {
        {"order", &settings.order},
        {"lazy", &settings.lazy},
        {"poison", &settings.poison},
        {"align", &settings.align},
        {"devices", &settings.devices},
        {"total_memory", &settings.total_memory},
        {"capability", &settings.capability},
        {"fail_launch", &settings.fail_launch},
        {"verbose", &settings.verbose},
    };
    auto found = all.find(name);
    return found == all.end() ? nullptr : found->second;
}

}  // namespace emulation

using namespace emulation;

API void emulation_set(const char* name, long value) {
    if (!strcmp(name, "seed")) random_numbers.seed(value);
    else if (long* setting = find_setting(name)) *setting = value;
}

API uint64_t emulation_counter(const char* name) {
    static const std::map<std::string, uint64_t*> all = {
        {"launches", &counters.launches},
        {"graph_launches", &counters.graph_launches},
        {"graph_nodes", &counters.graph_nodes},
        {"copies_to_device", &counters.copies_to_device},
        {"copies_to_host", &counters.copies_to_host},
        {"copies_on_device", &counters.copies_on_device},
        {"allocations", &counters.allocations},
        {"bytes_live", &counters.bytes_live},
        {"bytes_peak", &counters.bytes_peak},
    };
    return *all.at(name);
}

// Writes a line "kernel count" for each kernel that ran; returns the bytes that all lines and a zero take.
API size_t emulation_launches(char* text, size_t bytes) {
    std::string all;
    for (auto& [name, count] : launches_by_name) all += name + " " + std::to_string(count) + "\n";
    if (text) snprintf(text, bytes, "%s", all.c_str());
    return all.size() + 1;
}

// Writes the reports, a line each, and forgets them if they fit; returns the bytes that they and a zero take.
API size_t emulation_take_reports(char* text, size_t bytes) {
    size_t needed = reports.size() + 1;
    if (text && bytes >= needed) {
        memcpy(text, reports.c_str(), needed);
        reports.clear();
    }
    return needed;
}

API void emulation_reset_counters() {
    uint64_t live = counters.bytes_live;
    counters = Counters{};
    counters.bytes_live = counters.bytes_peak = live;
    launches_by_name.clear();
}

API const char* emulation_last_message() { return last_message.c_str(); }

API void emulation_clear_error() {
    fault = SUCCESS;
    last_message.clear();
    result_of_last_message = SUCCESS;
}

// CUDA's text, and after it what the driver knows about the last error of this kind: PyCUDA puts it into its exception.
API Result cuGetErrorString(Result result, const char** text) {
    static thread_local std::string answer;
    const ErrorText* entry = find_text(result);
    answer = entry ? entry->text : "an error without a text";
    if (result && result == result_of_last_message) answer += ": " + last_message;
    *text = answer.c_str();
    return SUCCESS;
}

API Result cuGetErrorName(Result result, const char** name) {
    const ErrorText* entry = find_text(result);
    *name = entry ? entry->name : nullptr;
    return entry ? SUCCESS : INVALID_VALUE;
}
