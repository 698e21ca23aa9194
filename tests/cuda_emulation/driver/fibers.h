// Fibers: stacks that one OS thread switches between.
#pragma once

namespace emulation {

struct Fiber {
    void* stack_pointer;  // while another one runs
    char* stack;
};

// Leaves `from`, which goes on when somebody switches back to it, and goes on in `to`.
void switch_fiber(Fiber& from, Fiber& to);

// A fiber that begins in `body` when it is first switched to; `body` never returns.
Fiber* new_fiber(void (*body)());
void restart(Fiber& fiber, void (*body)());  // forgets where it was

}  // namespace emulation
