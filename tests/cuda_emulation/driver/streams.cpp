// Streams and events.
#include "streams.h"

#include <algorithm>
#include <set>
#include <vector>

#include "graphs.h"

namespace emulation {

static std::set<Stream*> streams;

bool is_stream(const Stream* stream) { return streams.count(const_cast<Stream*>(stream)); }

static Result do_next(Stream* stream) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->done++;
    return fault ? fault : work();
}

static Result drain_until(Stream* stream, uint64_t position) {
    Result result = SUCCESS;
    while (!stream->queue.empty() && stream->done < position)
        if (Result failed = do_next(stream)) result = failed;
    return result;
}

Result drain(Stream* stream) { return drain_until(stream, stream->enqueued); }

static Result drain_if(bool (*chosen)(const Stream*)) {
    std::vector<Stream*> order;
    std::copy_if(streams.begin(), streams.end(), std::back_inserter(order), chosen);
    if (settings.lazy == 2) std::shuffle(order.begin(), order.end(), random_numbers);
    Result result = SUCCESS;
    for (Stream* stream : order)
        if (Result failed = drain(stream)) result = failed;
    return result ? result : fault;
}

Result synchronize_device() {
    return drain_if([](const Stream*) { return true; });
}

Result synchronize_default() {
    return drain_if([](const Stream* stream) { return stream->blocking; });
}

void destroy_streams_of(Context* context) {
    for (Stream* stream : std::vector<Stream*>(streams.begin(), streams.end())) {
        if (stream->context != context) continue;
        drain(stream);
        streams.erase(stream);
        delete stream;
    }
}

Result check_stream(const Context& context, const Stream* stream) {
    if (!stream) return SUCCESS;
    if (!is_stream(stream)) return fail(INVALID_HANDLE, "the stream has been destroyed");
    if (stream->context != &context) return fail(INVALID_HANDLE, "the stream belongs to another context");
    return SUCCESS;
}

bool end_capture_of_streams(const Graph* graph, const Stream* origin) {
    bool joined = true;
    for (Stream* stream : streams) {
        if (stream->capture != graph) continue;
        if (stream != origin && stream->joined_until < stream->captured) joined = false;
        stream->capture = nullptr;
    }
    return joined;
}

bool captures(const Stream* stream) { return stream && stream->capture; }

Result check_not_capturing(const char* what) {
    Graph* capture = capture_in_progress();
    if (!capture || capture->mode != CAPTURE_GLOBAL) return SUCCESS;
    return fail(CAPTURE_UNSUPPORTED, "%s while a stream captures in global mode", what);
}

static Result enqueue_eagerly_or_not(Stream* stream, Work work) {
    if (!stream) {
        Graph* capture = capture_in_progress();
        if (capture && capture->origin->blocking)
            return fail(CAPTURE_IMPLICIT, "work on the default stream while another stream captures");
        if (Result failed = synchronize_default()) return failed;
        return work();
    }
    stream->queue.push_back(std::move(work));
    stream->enqueued++;
    if (settings.lazy == 0) return drain(stream);
    if (settings.lazy == 2)
        for (Stream* any : std::vector<Stream*>(streams.begin(), streams.end()))
            if (random_numbers() % 3 == 0 && !any->queue.empty())
                if (Result failed = do_next(any)) return failed;
    return SUCCESS;
}

Result enqueue(Stream* stream, const Node& node) {
    if (Result result = check_stream(*current_context(), stream)) return result;
    if (!captures(stream)) return enqueue_eagerly_or_not(stream, node.work);
    stream->capture->nodes.push_back(node);
    stream->captured = stream->capture->nodes.size() + 1;
    return SUCCESS;
}

Result enqueue(Stream* stream, Work work) { return enqueue(stream, Node{HOST_NODE, std::move(work)}); }

}  // namespace emulation

using namespace emulation;

API Result cuStreamCreate(Stream** stream, unsigned flags) {
    return in_context([&](Context& context) {
        constexpr unsigned NON_BLOCKING = 1;
        *stream = new Stream{&context, !(flags & NON_BLOCKING), {}};
        streams.insert(*stream);
        return SUCCESS;
    });
}

API Result cuStreamCreateWithPriority(Stream** stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

API Result cuStreamDestroy_v2(Stream* stream) {
    return in_context_even_faulted([&](Context&) -> Result {
        if (!is_stream(stream)) return fail(INVALID_HANDLE, "the stream has been destroyed before");
        Result result = drain(stream);
        streams.erase(stream);
        delete stream;
        return result;
    });
}

API Result cuStreamSynchronize(Stream* stream) {
    return in_context([&](Context& context) -> Result {
        if (Result result = check_not_capturing("a wait")) return result;
        if (!stream) return synchronize_default();
        if (Result result = check_stream(context, stream)) return result;
        if (captures(stream)) return fail(CAPTURE_UNSUPPORTED, "a stream that captures cannot be waited for");
        return drain(stream);
    });
}

API Result cuStreamQuery(Stream* stream) {
    return in_context([&](Context& context) -> Result {
        if (Result result = check_stream(context, stream)) return result;
        if (captures(stream)) return fail(CAPTURE_UNSUPPORTED, "a stream that captures cannot be queried");
        return !stream || stream->queue.empty() ? SUCCESS : NOT_READY;
    });
}

API Result cuStreamGetFlags(Stream* stream, unsigned* flags) {
    *flags = stream && !stream->blocking;
    return SUCCESS;
}

API Result cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
    return in_context([&](Context& context) -> Result {
        if (Result result = check_stream(context, stream)) return result;
        if (event->capture && stream) {
            if (!stream->capture) {
                stream->capture = event->capture;
                stream->captured = event->position;  // unjoined, even if it adds no work
                stream->joined_until = 0;
            }
            if (is_stream(event->stream))
                event->stream->joined_until = std::max<size_t>(event->stream->joined_until, event->position);
            return SUCCESS;
        }
        if (captures(stream)) return fail(CAPTURE_UNSUPPORTED, "a captured wait for an event from outside the capture");
        if (!event->recorded || !event->stream) return SUCCESS;
        Stream* other = event->stream;
        uint64_t position = event->position;
        return enqueue(stream, [=] { return is_stream(other) ? drain_until(other, position) : SUCCESS; });
    });
}

API Result cuEventCreate(Event** event, unsigned) {
    return in_context([&](Context&) {
        *event = new Event;
        return SUCCESS;
    });
}

static Result wait_for(Event* event) {
    if (!event->recorded || event->complete || !is_stream(event->stream)) return fault;
    return drain_until(event->stream, event->position);
}

API Result cuEventDestroy_v2(Event* event) {
    return in_context_even_faulted([&](Context&) -> Result {
        Result result = wait_for(event);
        delete event;
        return result;
    });
}

API Result cuEventRecord(Event* event, Stream* stream) {
    return in_context([&](Context& context) -> Result {
        if (Result result = check_stream(context, stream)) return result;
        event->stream = stream;
        event->capture = captures(stream) ? stream->capture : nullptr;
        if (event->capture) {
            event->position = event->capture->nodes.size() + 1;
            return SUCCESS;
        }
        event->recorded = true;
        event->complete = false;
        event->position = stream ? stream->enqueued + 1 : 0;
        return enqueue(stream, [event] {
            clock_gettime(CLOCK_MONOTONIC, &event->time);
            event->complete = true;
            return SUCCESS;
        });
    });
}

API Result cuEventRecordWithFlags(Event* event, Stream* stream, unsigned) { return cuEventRecord(event, stream); }

API Result cuEventQuery(Event* event) {
    return in_context([&](Context&) { return !event->recorded || event->complete ? SUCCESS : NOT_READY; });
}

API Result cuEventSynchronize(Event* event) {
    return in_context([&](Context&) -> Result {
        if (Result result = check_not_capturing("a wait")) return result;
        return wait_for(event);
    });
}

API Result cuEventElapsedTime_v2(float* milliseconds, Event* start, Event* end) {
    return in_context([&](Context&) -> Result {
        if (!start->recorded || !end->recorded) return fail(INVALID_HANDLE, "the time of an event that was not recorded");
        if (!start->complete || !end->complete) return NOT_READY;
        double seconds = difftime(end->time.tv_sec, start->time.tv_sec);
        *milliseconds = seconds * 1e3 + (end->time.tv_nsec - start->time.tv_nsec) * 1e-6;
        return SUCCESS;
    });
}

API Result cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

API Result cuLaunchHostFunc(Stream* stream, void (*function)(void*), void* data) {
    return in_context([&](Context&) {
        return enqueue(stream, [=] {
            function(data);
            return SUCCESS;
        });
    });
}
