// A kernel launch: what is launched, with what, and the check that a GPU would refuse it.
#pragma once
#include <string>

#include "../device/runtime.h"
#include "driver.h"

namespace emulation {

constexpr unsigned DYNAMIC_SHARED_DEFAULT = 49152, DYNAMIC_SHARED_MOST = 232448;

struct Function {
    const KernelRecord* record;
    unsigned dynamic_shared_limit = DYNAMIC_SHARED_DEFAULT;
};

struct Launch {
    Function* function = nullptr;
    dim3 grid, block;
    unsigned dynamic_shared = 0;
    std::string parameters;  // as the kernel's record lays them out
};

Result check_launch(const Launch& launch);
Result run_launch(const Launch& launch);

}  // namespace emulation
