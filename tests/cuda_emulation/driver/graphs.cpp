// Stream capture and graphs.
#include "graphs.h"

#include <vector>

#include "modules.h"

namespace emulation {

static Graph* capturing = nullptr;

Graph* capture_in_progress() { return capturing; }

// NVIDIA's CUDA_KERNEL_NODE_PARAMS_v2.
struct KernelNodeParameters {
    Function* function;
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, dynamic_shared;
    void** parameters;
    void** extra;
    void* kernel;
    void* context;
};

static Result set_launch(Node& node, const KernelNodeParameters& from) {
    Launch launch{from.function,
                  {from.grid_x, from.grid_y, from.grid_z},
                  {from.block_x, from.block_y, from.block_z},
                  from.dynamic_shared,
                  {}};
    if (Result result = pack_parameters(launch, from.parameters, from.extra)) return result;
    if (Result result = check_launch(launch)) return result;
    node = kernel_node(launch);
    return SUCCESS;
}

static Result update(GraphExec& exec, Graph& graph) {
    if (exec.nodes.size() != graph.nodes.size()) return GRAPH_EXEC_UPDATE_FAILURE;
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
        const Node &before = exec.nodes[i], &after = graph.nodes[i];
        if (before.type != after.type || before.launch.function != after.launch.function)
            return fail(GRAPH_EXEC_UPDATE_FAILURE, "node %zu of the graph is of another kind", i);
    }
    exec.nodes = graph.nodes;
    for (size_t i = 0; i < graph.nodes.size(); ++i) exec.captured[i] = &graph.nodes[i];
    return SUCCESS;
}

static Node* node_of(GraphExec& exec, const Node* captured) {
    for (size_t i = 0; i < exec.captured.size(); ++i)
        if (exec.captured[i] == captured) return &exec.nodes[i];
    return nullptr;
}

}  // namespace emulation

using namespace emulation;

API Result cuStreamBeginCapture_v2(Stream* stream, CaptureMode mode) {
    return in_context([&](Context& context) -> Result {
        if (!stream) return fail(CAPTURE_UNSUPPORTED, "the default stream cannot capture");
        if (Result result = check_stream(context, stream)) return result;
        if (capturing) return fail(CAPTURE_UNSUPPORTED, "a stream captures already");
        drain(stream);
        stream->capture = capturing = new Graph{mode, stream, {}};
        stream->captured = stream->joined_until = 0;
        return SUCCESS;
    });
}

API Result cuStreamEndCapture(Stream* stream, Graph** graph) {
    return in_context_even_faulted([&](Context&) -> Result {
        *graph = nullptr;
        if (!is_stream(stream) || !stream->capture) return fail(INVALID_VALUE, "the stream does not capture");
        Graph* captured = stream->capture;
        if (captured->origin != stream) return fail(CAPTURE_UNJOINED, "a capture ends on the stream that it began on");
        capturing = nullptr;
        captured->origin = nullptr;
        if (!end_capture_of_streams(captured, stream)) {
            delete captured;
            return fail(CAPTURE_UNJOINED, "the capture has work in another stream that its stream does not wait for");
        }
        *graph = captured;
        return SUCCESS;
    });
}

API Result cuStreamIsCapturing(Stream* stream, int* status) {
    *status = captures(stream);
    return SUCCESS;
}

// What the next work of a capturing stream will depend on: here the newest node, as all work is in one line.
API Result cuStreamGetCaptureInfo_v2(Stream* stream, int* status, uint64_t* id, Graph** graph, Node*** dependencies,
                                     size_t* count) {
    return in_driver([&]() -> Result {
        static thread_local Node* newest;
        *status = captures(stream);
        Graph* capture = stream ? stream->capture : nullptr;
        if (id) *id = 1;
        if (graph) *graph = capture;
        newest = capture && !capture->nodes.empty() ? &capture->nodes.back() : nullptr;
        if (dependencies) *dependencies = &newest;
        if (count) *count = newest != nullptr;
        return SUCCESS;
    });
}

API Result cuThreadExchangeStreamCaptureMode(CaptureMode* mode) {
    static thread_local CaptureMode current = CAPTURE_GLOBAL;
    std::swap(current, *mode);
    return SUCCESS;
}

// With nodes null only counts them; else writes at most *count.
API Result cuGraphGetNodes(Graph* graph, Node** nodes, size_t* count) {
    return in_driver([&] {
        if (nodes)
            for (size_t i = 0; i < *count && i < graph->nodes.size(); ++i) nodes[i] = &graph->nodes[i];
        *count = graph->nodes.size();
        return SUCCESS;
    });
}

API Result cuGraphNodeGetType(Node* node, NodeType* type) {
    *type = node->type;
    return SUCCESS;
}

API Result cuGraphKernelNodeGetParams_v2(Node* node, KernelNodeParameters* parameters) {
    return in_driver([&]() -> Result {
        if (node->type != KERNEL_NODE) return fail(INVALID_VALUE, "the node is no kernel");
        static thread_local std::vector<void*> pointers;
        const Launch& launch = node->launch;
        const KernelRecord& record = *launch.function->record;
        pointers.clear();
        for (unsigned i = 0; i < record.parameter_count; ++i)
            pointers.push_back(const_cast<char*>(launch.parameters.data()) + record.parameter_offsets[i]);
        *parameters = {launch.function, launch.grid.x, launch.grid.y, launch.grid.z, launch.block.x, launch.block.y,
                       launch.block.z, launch.dynamic_shared, pointers.data(), nullptr, nullptr, nullptr};
        return SUCCESS;
    });
}

API Result cuGraphKernelNodeSetParams_v2(Node* node, const KernelNodeParameters* parameters) {
    return in_driver([&] { return set_launch(*node, *parameters); });
}

API Result cuGraphExecKernelNodeSetParams_v2(GraphExec* exec, Node* node, const KernelNodeParameters* parameters) {
    return in_driver([&]() -> Result {
        Node* mine = node_of(*exec, node);
        if (!mine) return fail(INVALID_VALUE, "the node belongs to another graph");
        return set_launch(*mine, *parameters);
    });
}

API Result cuGraphInstantiateWithFlags(GraphExec** exec, Graph* graph, unsigned long long) {
    return in_context([&](Context&) {
        *exec = new GraphExec{graph->nodes, {}};
        for (Node& node : graph->nodes) (*exec)->captured.push_back(&node);
        return SUCCESS;
    });
}

API Result cuGraphInstantiate_v2(GraphExec** exec, Graph* graph, void*, char*, size_t) {
    return cuGraphInstantiateWithFlags(exec, graph, 0);
}

API Result cuGraphExecUpdate_v2(GraphExec* exec, Graph* graph, void*) {
    return in_context([&](Context&) { return update(*exec, *graph); });
}

API Result cuGraphLaunch(GraphExec* exec, Stream* stream) {
    return in_context([&](Context&) -> Result {
        counters.graph_launches++;
        for (const Node& node : exec->nodes) {
            counters.graph_nodes++;
            if (Result result = enqueue(stream, node)) return result;
        }
        return SUCCESS;
    });
}

API Result cuGraphUpload(GraphExec*, Stream*) { return SUCCESS; }

API Result cuGraphDestroy(Graph* graph) {
    return in_driver([&] {
        delete graph;
        return SUCCESS;
    });
}

API Result cuGraphExecDestroy(GraphExec* exec) {
    return in_driver([&] {
        delete exec;
        return SUCCESS;
    });
}
