// The switch from one stack to another, for x86-64.
#include "fibers.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#ifndef __x86_64__
#error "switch_stack is written for x86-64"
#endif

// Saves the registers that a function must keep, and takes the other stack's.
extern "C" void emulation_switch_stack(void** save, void* to);
asm(R"(
.text
.type emulation_switch_stack, @function
emulation_switch_stack:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size emulation_switch_stack, . - emulation_switch_stack
)");

namespace emulation {

constexpr size_t STACK_BYTES = 256 << 10, GUARD_BYTES = 4096;
constexpr int SAVED_REGISTERS = 6;

void switch_fiber(Fiber& from, Fiber& to) { emulation_switch_stack(&from.stack_pointer, to.stack_pointer); }

void restart(Fiber& fiber, void (*body)()) {
    // The tops of the stacks differ in their low address bits: otherwise all of them share a few cache sets.
    size_t colour = reinterpret_cast<uintptr_t>(fiber.stack) / STACK_BYTES % 97 * 320;
    void** top = reinterpret_cast<void**>(fiber.stack + STACK_BYTES - colour);
    *--top = nullptr;  // the caller of body, which has none
    *--top = reinterpret_cast<void*>(body);
    for (int i = 0; i < SAVED_REGISTERS; ++i) *--top = nullptr;
    fiber.stack_pointer = top;
}

Fiber* new_fiber(void (*body)()) {
    void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) __builtin_trap();
    mprotect(stack, GUARD_BYTES, PROT_NONE);
    Fiber* fiber = new Fiber{nullptr, static_cast<char*>(stack)};
    restart(*fiber, body);
    return fiber;
}

}  // namespace emulation
