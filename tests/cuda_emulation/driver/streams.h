// Streams: queues of work.  How long work waits in them is the setting `lazy`: not at all, until somebody must see its
// result, or for a random time.  A stream that captures hands its work to a graph instead.
#pragma once
#include <time.h>

#include <deque>
#include <functional>

#include "driver.h"

namespace emulation {

struct Graph;
struct Node;
typedef std::function<Result()> Work;

struct Stream {
    Context* context;
    bool blocking;           // waits for the default stream, and the default stream for it
    std::deque<Work> queue;
    uint64_t done = 0;       // pieces of work since the beginning
    uint64_t enqueued = 0;
    Graph* capture = nullptr;
    size_t captured = 0;      // nodes of the capture when this stream last added one
    size_t joined_until = 0;  // nodes of the capture when an event was recorded here that another stream waits for
};

struct Event {
    Stream* stream = nullptr;
    uint64_t position = 0;     // complete when the stream has done this much
    timespec time{};
    bool recorded = false, complete = false;
    Graph* capture = nullptr;  // recorded while its stream captured: joins the streams that wait for it
};

bool is_stream(const Stream* stream);

// Puts work into a stream; null is the default stream, where it is done before the call returns.
Result enqueue(Stream* stream, Work work);
Result enqueue(Stream* stream, const Node& node);  // the same, for what becomes a node of its own kind in a graph

Result drain(Stream* stream);     // do all that waits in it
Result synchronize_device();      // in all streams, in any order that is allowed
Result synchronize_default();     // in those that the default stream waits for
void destroy_streams_of(Context* context);

Result check_stream(const Context& context, const Stream* stream);

// Fails while a stream captures in global mode, in which nobody may allocate or wait.
Result check_not_capturing(const char* what);
bool captures(const Stream* stream);

// Takes all streams out of a capture; false if one other than `origin` has work in it that `origin` did not wait for.
bool end_capture_of_streams(const Graph* graph, const Stream* origin);

}  // namespace emulation
