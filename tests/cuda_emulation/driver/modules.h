// Modules: shared objects that the stand-in compiler made, and the kernels in them.
#pragma once
#include <string>

#include "graphs.h"

namespace emulation {

// Copies the arguments of a launch, given in one of cuLaunchKernel's two ways, to where the kernel's record wants them.
Result pack_parameters(Launch& launch, void** parameters, void** extra);

Node kernel_node(const Launch& launch);

// " at pointwise.cu:12", as far as an instruction's place in the sources is known.
std::string source_line(void* instruction);

}  // namespace emulation
