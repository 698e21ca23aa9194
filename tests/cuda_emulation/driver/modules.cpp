// Loading modules, finding kernels and variables in them, and cuLaunchKernel.
#include "modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "block.h"
#include "memory.h"

namespace emulation {

struct Module {
    void* library;
    DevicePointer base;
    std::string image;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

static std::set<Module*> modules;

// An image has no length of its own: its section headers come last.
static size_t image_bytes(const void* image) {
    Elf64_Ehdr header;
    memcpy(&header, image, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_machine != EM_X86_64) return 0;
    return header.e_shoff + size_t(header.e_shentsize) * header.e_shnum;
}

// A file with this content that lives as long as the object.
class TemporaryFile {
  public:
    explicit TemporaryFile(const std::string& content) {
        int descriptor = mkstemp(path_);
        complete_ = descriptor >= 0 && write(descriptor, content.data(), content.size()) == ssize_t(content.size());
        if (descriptor >= 0) close(descriptor);
    }
    ~TemporaryFile() { unlink(path_); }
    const char* path() const { return path_; }
    bool complete() const { return complete_; }

  private:
    char path_[32] = "/tmp/emulated-module-XXXXXX";
    bool complete_;
};

static Result load(Module** module, std::string image) {
    TemporaryFile file(image);
    void* library = file.complete() ? dlopen(file.path(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (!library) return fail(INVALID_IMAGE, "the module cannot be loaded: %s", dlerror());
    link_map* map;
    dlinfo(library, RTLD_DI_LINKMAP, &map);
    *module = new Module{library, map->l_addr, std::move(image), {}};
    modules.insert(*module);
    return SUCCESS;
}

std::string source_line(void* instruction) {
    Dl_info info;
    if (!dladdr(instruction, &info)) return "";
    for (const Module* module : modules) {
        if (module->base != reinterpret_cast<DevicePointer>(info.dli_fbase)) continue;
        TemporaryFile file(module->image);
        char command[160], line[512] = "";
        snprintf(command, sizeof command, "addr2line -e %s %#lx 2>/dev/null", file.path(),
                 reinterpret_cast<DevicePointer>(instruction) - module->base);
        if (FILE* pipe = popen(command, "r")) {
            if (!fgets(line, sizeof line, pipe)) line[0] = 0;
            pclose(pipe);
        }
        std::string text(line, strcspn(line, " \n"));  // " (discriminator 2)" follows sometimes
        if (text.empty() || text[0] == '?') return "";
        size_t slash = text.rfind('/');
        return " at " + (slash == std::string::npos ? text : text.substr(slash + 1));
    }
    return "";
}

Result pack_parameters(Launch& launch, void** parameters, void** extra) {
    const KernelRecord& record = *launch.function->record;
    launch.parameters.assign(record.parameter_bytes, '\0');
    if (parameters) {
        for (unsigned i = 0; i < record.parameter_count; ++i)
            memcpy(&launch.parameters[record.parameter_offsets[i]], parameters[i], record.parameter_sizes[i]);
        return SUCCESS;
    }
    const void* buffer = nullptr;
    size_t bytes = 0;
    enum : uintptr_t { END, BUFFER_POINTER, BUFFER_SIZE };
    for (void** option = extra; option && *option; option += 2) {
        if (*option == reinterpret_cast<void*>(BUFFER_POINTER)) buffer = option[1];
        if (*option == reinterpret_cast<void*>(BUFFER_SIZE)) bytes = *static_cast<size_t*>(option[1]);
    }
    size_t padded = (record.parameter_bytes + 7) / 8 * 8;
    if (bytes != record.parameter_bytes && bytes != padded)
        return fail(INVALID_VALUE, "%s: %zu bytes of arguments given, the kernel takes %u", record.name, bytes,
                    record.parameter_bytes);
    if (bytes) memcpy(launch.parameters.data(), buffer, record.parameter_bytes);
    return SUCCESS;
}

Node kernel_node(const Launch& launch) {
    auto shared = std::make_shared<Launch>(launch);
    return {KERNEL_NODE, [shared] { return run_launch(*shared); }, launch};
}

}  // namespace emulation

using namespace emulation;

API Result cuModuleLoadData(Module** module, const void* image) {
    return in_context([&](Context&) -> Result {
        size_t bytes = image_bytes(image);
        if (!bytes)
            return fail(INVALID_IMAGE, "the module was not made by the stand-in compiler: cubin and PTX cannot run here");
        return load(module, std::string(static_cast<const char*>(image), bytes));
    });
}

API Result cuModuleLoadDataEx(Module** module, const void* image, unsigned count, int* options, void** values) {
    enum { INFO_LOG_BYTES = 4, ERROR_LOG_BYTES = 6 };
    for (unsigned i = 0; i < count; ++i)
        if (options[i] == INFO_LOG_BYTES || options[i] == ERROR_LOG_BYTES) values[i] = nullptr;
    return cuModuleLoadData(module, image);
}

API Result cuModuleLoad(Module** module, const char* path) {
    return in_context([&](Context&) -> Result {
        std::string image;
        if (FILE* file = fopen(path, "rb")) {
            char part[4096];
            while (size_t got = fread(part, 1, sizeof part, file)) image.append(part, got);
            fclose(file);
        }
        return load(module, image);
    });
}

API Result cuModuleUnload(Module* module) {
    return in_context_even_faulted([&](Context&) -> Result {
        if (!modules.erase(module)) return fail(INVALID_HANDLE, "the module has been unloaded before");
        synchronize_device();
        for (auto& [name, function] : module->functions) forget_shared_arrays(function->record);
        dlclose(module->library);
        remove_variables(module->base, module->base + module->image.size() + (64 << 20));
        delete module;
        return SUCCESS;
    });
}

API Result cuModuleGetFunction(Function** function, Module* module, const char* name) {
    return in_context([&](Context&) -> Result {
        auto& known = module->functions[name];
        if (!known) {
            void* symbol = dlsym(module->library, (std::string("kernel_record_") + name).c_str());
            auto record = static_cast<const KernelRecord*>(symbol);
            if (!record || record->magic != KERNEL_RECORD_MAGIC) {
                module->functions.erase(name);
                return fail(NOT_FOUND, "the module has no kernel named %s (is it extern \"C\"?)", name);
            }
            known.reset(new Function{record});
        }
        *function = known.get();
        return SUCCESS;
    });
}

API Result cuModuleGetGlobal_v2(DevicePointer* pointer, size_t* bytes, Module* module, const char* name) {
    return in_context([&](Context& context) -> Result {
        void* symbol = dlsym(module->library, name);
        if (!symbol) return fail(NOT_FOUND, "the module has no variable named %s", name);
        Dl_info info;
        Elf64_Sym* entry = nullptr;
        dladdr1(symbol, &info, reinterpret_cast<void**>(&entry), RTLD_DL_SYMENT);
        size_t size = entry ? entry->st_size : 0;
        auto address = reinterpret_cast<DevicePointer>(symbol);
        add_variable(context, address, size);
        if (pointer) *pointer = address;
        if (bytes) *bytes = size;
        return SUCCESS;
    });
}

// CUfunction_attribute.
enum { MAX_THREADS = 0, SHARED_BYTES = 1, PTX_VERSION = 5, BINARY_VERSION = 6, MAX_DYNAMIC_SHARED = 8 };

API Result cuFuncGetAttribute(int* value, int attribute, Function* function) {
    return in_driver([&] {
        switch (attribute) {
            case MAX_THREADS: *value = function->record->max_threads; break;
            case SHARED_BYTES: *value = static_shared_bytes(function->record); break;
            case MAX_DYNAMIC_SHARED: *value = function->dynamic_shared_limit; break;
            case PTX_VERSION:
            case BINARY_VERSION: *value = settings.capability; break;
            default: *value = 0;
        }
        return SUCCESS;
    });
}

API Result cuFuncSetAttribute(Function* function, int attribute, int value) {
    return in_driver([&]() -> Result {
        if (attribute != MAX_DYNAMIC_SHARED) return SUCCESS;
        if (value < 0 || unsigned(value) > DYNAMIC_SHARED_MOST)
            return fail(INVALID_VALUE, "%s: %d bytes of dynamic shared memory, at most %u", function->record->name, value,
                        DYNAMIC_SHARED_MOST);
        function->dynamic_shared_limit = std::max(DYNAMIC_SHARED_DEFAULT, unsigned(value));
        return SUCCESS;
    });
}

API Result cuFuncSetCacheConfig(Function*, int) { return SUCCESS; }
API Result cuFuncSetSharedSize(Function*, unsigned) { return SUCCESS; }
API Result cuFuncSetBlockShape(Function*, int x, int y, int z) { return x > 0 && y > 0 && z > 0 ? SUCCESS : INVALID_VALUE; }

API Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function*, int threads, size_t dynamic_shared) {
    if (threads < 1 || threads > 1024) return INVALID_VALUE;
    int by_threads = std::min(32, 2048 / threads);
    *blocks = std::min<int>(by_threads, 233472 / (dynamic_shared + 1024));
    return SUCCESS;
}

API Result cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned dynamic_shared, Stream* stream,
                          void** parameters, void** extra) {
    return in_context([&](Context&) -> Result {
        if (!function) return fail(INVALID_HANDLE, "a launch without a kernel");
        Launch launch{function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, dynamic_shared, {}};
        if (Result result = check_launch(launch)) return result;
        if (Result result = pack_parameters(launch, parameters, extra)) return result;
        if (settings.fail_launch >= 0 && settings.fail_launch-- == 0)
            return fault = fail(LAUNCH_FAILED, "%s: the emulation was told to let this launch fail", function->record->name);
        return enqueue(stream, kernel_node(launch));
    });
}

// NVIDIA's CUlaunchConfig; its attributes (clusters, programmatic launches) change nothing here.
struct LaunchConfig {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, dynamic_shared;
    Stream* stream;
    void* attributes;
    unsigned attribute_count;
};

API Result cuLaunchKernelEx(const LaunchConfig* config, Function* function, void** parameters, void** extra) {
    return cuLaunchKernel(function, config->grid_x, config->grid_y, config->grid_z, config->block_x, config->block_y,
                          config->block_z, config->dynamic_shared, config->stream, parameters, extra);
}
