// Makes the record by which the driver finds and calls a kernel: compiler/source_route.py writes one EMULATED_KERNEL for
// each.
#pragma once

template <class... Parameters>
struct KernelParameters {
    static constexpr size_t COUNT = sizeof...(Parameters);
    struct Layout {
        uint32_t offsets[COUNT + 1], sizes[COUNT + 1], bytes;
    };

    // As the host lays them out: each at the next multiple of its alignment.
    static constexpr Layout make_layout() {
        Layout layout{};
        uint32_t end = 0, i = 0;
        ((end = (end + alignof(Parameters) - 1) / alignof(Parameters) * alignof(Parameters), layout.offsets[i] = end,
          layout.sizes[i] = sizeof(Parameters), end += sizeof(Parameters), ++i),
         ...);
        layout.bytes = end;
        return layout;
    }
    static constexpr Layout layout = make_layout();

    template <class T>
    static T read(const char* parameters, uint32_t offset) {
        T value;
        memcpy((void*)&value, parameters + offset, sizeof value);
        return value;
    }
    template <size_t... I>
    static void call_with(void (*kernel)(Parameters...), const char* parameters, std::index_sequence<I...>) {
        kernel(read<Parameters>(parameters, layout.offsets[I])...);
    }
    static void call(void* kernel, const char* parameters) {
        call_with((void (*)(Parameters...))kernel, parameters, std::make_index_sequence<COUNT>());
    }
};

template <class... Parameters>
static inline KernelRecord make_kernel_record(const char* name, void (*kernel)(Parameters...), unsigned max_threads) {
    typedef KernelParameters<std::remove_const_t<Parameters>...> Layout;
    return {KERNEL_RECORD_MAGIC, sizeof...(Parameters), name, Layout::call, (void*)kernel, Layout::layout.offsets,
            Layout::layout.sizes, Layout::layout.bytes, max_threads};
}

#define EMULATED_KERNEL(name, max_threads)                                          \
    extern "C" __attribute__((visibility("default"))) KernelRecord kernel_record_##name; \
    KernelRecord kernel_record_##name = make_kernel_record(#name, &name, max_threads);
