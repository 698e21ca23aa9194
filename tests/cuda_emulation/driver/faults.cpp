// Turns signals that a kernel raises into errors that name the kernel, the thread, the place and the memory.
#include "faults.h"

#include <signal.h>

#include <cstdio>
#include <cstring>

#include "block.h"
#include "memory.h"
#include "modules.h"

namespace emulation {

sigjmp_buf fault_exit;
bool kernel_runs = false;

constexpr int WATCHED[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction before[NSIG];

// What happened, noted by the handler; everything else is done outside of it.
static int fault_signal;
static void *fault_address, *fault_instruction;
static const char* trap_message;

static void handle(int number, siginfo_t* info, void* context) {
    if (!kernel_runs) {  // not ours: whoever was there before sees it when the instruction is tried again
        sigaction(number, &before[number], nullptr);
        return;
    }
    fault_signal = number;
    fault_address = info->si_addr;
    fault_instruction = reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
    siglongjmp(fault_exit, 1);
}

void watch_signals() {
    static thread_local char stack[64 << 10];  // a fiber's stack may be what has overflowed
    static thread_local bool has_stack = false;
    if (!has_stack) {
        stack_t alternative{stack, 0, sizeof stack};
        sigaltstack(&alternative, nullptr);
        has_stack = true;
    }
    struct sigaction ours {};
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int number : WATCHED) {
        struct sigaction now;
        sigaction(number, nullptr, &now);
        if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handle) continue;
        before[number] = now;
        sigaction(number, &ours, nullptr);
    }
}

Result explain_fault() {
    std::string place = where();
    if (trap_message) {
        const char* message = trap_message;
        trap_message = nullptr;
        return fail(ASSERT, "%s: %s", place.c_str(), message);
    }
    place += source_line(fault_instruction);
    if (fault_signal == SIGILL)
        return fail(LAUNCH_FAILED,
                    "%s: a check failed: an index outside an array, a misaligned access or a shift too far",
                    place.c_str());
    if (fault_signal == SIGFPE) return fail(LAUNCH_FAILED, "%s: an integer was divided by zero", place.c_str());
    std::string near = describe_shared_address(fault_address);
    if (near.empty()) near = describe_address(reinterpret_cast<DevicePointer>(fault_address));
    return fail(ILLEGAL_ADDRESS, "%s: illegal address %p: %s", place.c_str(), fault_address, near.c_str());
}

}  // namespace emulation

using namespace emulation;

API void emulated_trap(const char* message) {
    trap_message = message;
    siglongjmp(fault_exit, 1);
}
