// Faults in kernels: a signal, or emulated_trap, ends the launch and becomes a message.
#pragma once
#include <csetjmp>

#include "driver.h"

namespace emulation {

extern sigjmp_buf fault_exit;  // where a fault leaves the kernel for, set by run_launch
extern bool kernel_runs;

void watch_signals();          // before kernels run; cheap when nothing has changed
Result explain_fault();        // after a jump to fault_exit

}  // namespace emulation
