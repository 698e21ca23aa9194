// Graphs: work that was captured from streams, to be done again.
#pragma once
#include <vector>

#include "launch.h"
#include "streams.h"

namespace emulation {

enum NodeType : int { KERNEL_NODE = 0, COPY_NODE = 1, MEMSET_NODE = 2, HOST_NODE = 3 };

struct Node {
    NodeType type;
    Work work;
    Launch launch{};  // of a kernel node
};

// NVIDIA's capture modes; relaxed ones let the capturing program allocate.
enum CaptureMode : int { CAPTURE_GLOBAL = 0, CAPTURE_THREAD_LOCAL = 1, CAPTURE_RELAXED = 2 };

struct Graph {
    CaptureMode mode = CAPTURE_GLOBAL;
    Stream* origin = nullptr;  // while capturing
    std::deque<Node> nodes;    // in the order of capture, which is one that their dependencies allow
};

struct GraphExec {
    std::deque<Node> nodes;
    std::vector<Node*> captured;  // the node of the graph that each was made from
};

Graph* capture_in_progress();

}  // namespace emulation
