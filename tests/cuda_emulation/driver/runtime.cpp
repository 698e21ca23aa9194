// A CUDA *driver API* on the CPU (soname libcuda.so.1): real PyCUDA, cuda-python or ctypes code runs on it unchanged.
// Modules are host .so images that hostnvcc made; kernels run as fibers, one OS thread, deterministic or shuffled order.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cstdarg>
#include <csetjmp>
#include <csignal>
#include <ctime>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>
#include <algorithm>
#include <dlfcn.h>
#include <unistd.h>
#include <sys/mman.h>
#define API extern "C" __attribute__((visibility("default")))
typedef int R; typedef uintptr_t P;
enum { OK = 0, INVALID_VALUE = 1, OOM = 2, NOT_INIT = 3, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
       ILLEGAL_ADDRESS = 700, OUT_OF_RESOURCES = 701, LAUNCH_FAILED = 719, MISALIGNED = 716, ASSERT = 710, NOT_SUPPORTED = 801, CAP_UNSUPPORTED = 900, CAP_INVALIDATED = 901, CAP_IMPLICIT = 906 };
struct uint3 { unsigned x, y, z; }; struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct ChKernel { uint32_t magic, nparams; const char* name; void (*invoke)(void*, const char*); void* fn; const uint32_t *off, *size; uint32_t param_bytes, max_threads; };

// ------------------------------------------------------------------ settings, log, stats
struct Stats { uint64_t launches, graph_launches, graph_nodes, allocs, bytes_live, bytes_peak, h2d, d2h, d2d, h2d_bytes, d2h_bytes, switches; };
API Stats ch_stats; Stats ch_stats;
static int g_order = 0 /*0 fwd 1 rev 2 random*/, g_lazy = 0 /*0 eager 1 lazy 2 random*/, g_poison = 1, g_align = 16, g_strict_barrier = 1, g_verbose = 0;
static std::mt19937 g_rng(1); static R g_sticky = 0; static std::string g_lastmsg; static bool g_inited = false; static int g_devices = 1, g_capability = 90; static size_t g_total = 8ull << 30; static long g_fail_launch = -1; static std::map<std::string, uint64_t> g_launches;
API void ch_set(const char* k, long v) { std::string s = k; if (s == "order") g_order = v; else if (s == "lazy") g_lazy = v; else if (s == "seed") g_rng.seed(v); else if (s == "poison") g_poison = v; else if (s == "align") g_align = v; else if (s == "verbose") g_verbose = v; else if (s == "strict_barrier") g_strict_barrier = v; else if (s == "clear_error") { g_sticky = 0; g_lastmsg.clear(); } else if (s == "clear_stats") { auto l = ch_stats.bytes_live; ch_stats = Stats{}; ch_stats.bytes_live = l; } }
API void emulation_set(const char* k, long v) { std::string s = k; if (s == "devices") g_devices = v; else if (s == "total_memory") g_total = v; else if (s == "capability") g_capability = v; else if (s == "fail_launch") g_fail_launch = v; else ch_set(k, v); }
API void emulation_clear_error() { g_sticky = 0; g_lastmsg.clear(); }
API const char* emulation_last_message() { return g_lastmsg.c_str(); }
API void emulation_reset_counters() { ch_set("clear_stats", 0); ch_stats.bytes_peak = ch_stats.bytes_live; g_launches.clear(); }
API uint64_t emulation_counter(const char* k) { std::string s = k; if (s == "launches") return ch_stats.launches; if (s == "graph_launches") return ch_stats.graph_launches; if (s == "graph_nodes") return ch_stats.graph_nodes; if (s == "allocations") return ch_stats.allocs; if (s == "bytes_live") return ch_stats.bytes_live; if (s == "bytes_peak") return ch_stats.bytes_peak; if (s == "copies_to_device") return ch_stats.h2d; if (s == "copies_to_host") return ch_stats.d2h; if (s == "copies_on_device") return ch_stats.d2d; return 0; }
API size_t emulation_launches(char* b, size_t n) { std::string t; for (auto& [k, c] : g_launches) t += k + " " + std::to_string(c) + "\n"; if (b && n) { size_t m = std::min(n - 1, t.size()); memcpy(b, t.data(), m); b[m] = 0; } return t.size() + 1; }
API const char* ch_last_message() { return g_lastmsg.c_str(); }
static R fail(R code, const char* fmt, ...) { char b[1024]; va_list a; va_start(a, fmt); vsnprintf(b, sizeof b, fmt, a); va_end(a); g_lastmsg = b; if (g_verbose) fprintf(stderr, "cudahost: %s\n", b); return code; }

// ------------------------------------------------------------------ memory
struct Alloc { P map; size_t maplen, size; uint64_t id; }; static std::map<P, Alloc> g_mem; static uint64_t g_ids = 0; static std::map<P, size_t> g_pinned;
struct Freed { P lo, hi; size_t size; uint64_t id; }; static std::deque<Freed> g_freed;
static Alloc* find(P p, P* base = nullptr) { auto it = g_mem.upper_bound(p); if (it == g_mem.begin()) return nullptr; --it; if (p >= it->first + it->second.size) return nullptr; if (base) *base = it->first; return &it->second; }
static bool in_range(P p, size_t n) { if (!n) return true; P b; Alloc* a = find(p, &b); return a && p + n <= b + a->size; }
static bool pinned(const void* h, size_t n) { auto it = g_pinned.upper_bound((P)h); if (it == g_pinned.begin()) return false; --it; return (P)h + n <= it->first + it->second; }

// ------------------------------------------------------------------ fibers
extern "C" void ch_switch(void** save, void* to);
#if defined(__x86_64__)
asm(".text\n.globl ch_switch\n.type ch_switch,@function\nch_switch:\n push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n mov %rsp,(%rdi)\n mov %rsi,%rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n pop %rcx\n jmp *%rcx\n.size ch_switch,.-ch_switch\n");
#else
#error "add a context switch for this processor (or use ucontext)"
#endif
API uint3 ch_threadIdx, ch_blockIdx; API dim3 ch_blockDim, ch_gridDim; uint3 ch_threadIdx, ch_blockIdx; dim3 ch_blockDim, ch_gridDim;
enum St : uint8_t { READY, BARRIER, WARP, DONE };
struct Cp { void* d; const void* s; unsigned n, sn; };
struct Fiber { void* sp; char* stack; uint3 tid; int idx; bool started; unsigned mask, n; int kind, result; char* slots; unsigned arrived; std::vector<std::vector<Cp>> cp; };
static St ST[1024]; static const void* SITE[1024]; static int PRED[1024]; static char DEP[1024][128]; static int n_done, n_bar, g_op, n_warp;
constexpr size_t STK = 256 << 10; constexpr int RING = 64;
static std::vector<Fiber> F; static std::vector<char*> g_stacks; static Fiber* cur; static void* g_sched_sp; static const ChKernel* K; static const char* g_params;
static char* g_ring; static std::vector<unsigned> g_ringpos; static sigjmp_buf g_jmp; static volatile int g_in_kernel; static R g_fault; static char* g_smem; static size_t g_smem_n;
static std::map<const ChKernel*, std::vector<std::pair<void*, size_t>>> g_shared; constexpr size_t SMEM_MAX = 232448;
static char* new_stack() { if (!g_stacks.empty()) { char* s = g_stacks.back(); g_stacks.pop_back(); return s; }
    char* s = (char*)mmap(nullptr, STK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); mprotect(s, 4096, PROT_NONE); return s; }
static inline void yield() { Fiber* f = cur; ch_stats.switches++; ch_switch(&f->sp, g_sched_sp); }
static void fiber_main() { K->invoke(K->fn, g_params); ST[cur->idx] = DONE; ++n_done; ch_switch(&cur->sp, g_sched_sp); __builtin_trap(); }
[[noreturn]] static void kfault(R code) { g_fault = code; siglongjmp(g_jmp, 1); }
static std::string where() { char b[256]; snprintf(b, sizeof b, "kernel %s block (%u,%u,%u) thread (%u,%u,%u)", K->name, ch_blockIdx.x, ch_blockIdx.y, ch_blockIdx.z, ch_threadIdx.x, ch_threadIdx.y, ch_threadIdx.z); return b; }
API void ch_trap(const char* m) { fail(ASSERT, "%s: %s", where().c_str(), m); kfault(ASSERT); }
API int ch_lane() { return cur->idx & 31; }
API void* ch_dynamic_smem() { return g_smem + ((SMEM_MAX + 4095) / 4096 * 4096) - ((g_smem_n + 15) & ~size_t(15)); }
API void ch_reg_shared(void* p, size_t n) { g_shared[K].push_back({p, n}); if (g_poison) memset(p, 0xff, n); }
API int ch_barrier(const void* site, int op, int pred) { int i = cur->idx; ST[i] = BARRIER; SITE[i] = site; g_op = op; PRED[i] = pred; ++n_bar; yield(); return op ? cur->result : 0; }
API char* ch_warp(unsigned mask, const void* d, unsigned n, int kind, unsigned* arr) {
    if (!(mask >> (cur->idx & 31) & 1)) ch_trap("warp operation whose mask leaves out the calling lane");
    if (n) memcpy(DEP[cur->idx], d, n); ST[cur->idx] = WARP; ++n_warp; cur->mask = mask; cur->n = n; cur->kind = kind; yield(); *arr = cur->arrived; return cur->slots; }
API void ch_cp_async(void* d, const void* s, unsigned n, unsigned sn) { if (((P)d | (P)s) & (n - 1)) ch_trap("cp.async misaligned"); if (cur->cp.empty()) cur->cp.emplace_back(); cur->cp.back().push_back({d, s, n, sn}); }
API void ch_cp_commit() { if (cur->cp.empty()) cur->cp.emplace_back(); cur->cp.emplace_back(); }
API void ch_cp_wait(int keep) { auto& q = cur->cp; while ((int)q.size() - 1 > keep) { for (auto& c : q.front()) { memcpy(c.d, c.s, c.sn); memset((char*)c.d + c.sn, 0, c.n - c.sn); } q.erase(q.begin()); } }
static void handler(int sig, siginfo_t* si, void*) {
    if (!g_in_kernel) { signal(sig, SIG_DFL); raise(sig); return; }
    P a = (P)si->si_addr; std::string w = where(); R code = sig == SIGFPE || sig == SIGILL ? LAUNCH_FAILED : ILLEGAL_ADDRESS;
    if (sig == SIGILL) fail(code, "%s: sanitizer trap (index out of a shared/local array's bounds, misaligned access or undefined behaviour)", w.c_str());
    else if (sig == SIGFPE) fail(code, "%s: integer division by zero", w.c_str());
    else { char d[200] = "not near any device allocation"; P best = ~0ul;
        for (auto& [b, al] : g_mem) { P e = b + al.size; P dist = a < b ? b - a : a >= e ? a - e : 0; if (dist < best && dist < (64u << 20)) { best = dist; snprintf(d, sizeof d, "%lu bytes %s allocation #%lu of %zu bytes", (unsigned long)dist, a < b ? "before" : "past the end of", (unsigned long)al.id, al.size); } }
        for (auto& f : g_freed) if (a >= f.lo && a < f.hi) snprintf(d, sizeof d, "inside freed allocation #%lu of %zu bytes", (unsigned long)f.id, f.size);
        P se = (P)g_smem + (SMEM_MAX + 4095) / 4096 * 4096; if (g_smem && a >= se && a < se + 4096) snprintf(d, sizeof d, "%lu bytes past the dynamic shared memory (%zu bytes)", (unsigned long)(a - se), g_smem_n);
        fail(code, "%s: illegal address %p: %s", w.c_str(), (void*)a, d); }
    g_fault = code; siglongjmp(g_jmp, 1); }

static inline void resume(Fiber& f) { cur = &f; ch_threadIdx = f.tid;
    if (!f.started) { f.started = true; f.stack = new_stack(); void** sp = (void**)(f.stack + STK - (size_t)(f.idx % 97) * 320);   /* colour the stacks: equal low address bits would share cache sets */
        *--sp = nullptr; *--sp = (void*)fiber_main; for (int i = 0; i < 6; ++i) *--sp = nullptr; f.sp = sp; }
    ch_switch(&g_sched_sp, f.sp);
    if (ST[f.idx] == DONE) { g_stacks.push_back(f.stack); f.stack = nullptr; if (!f.cp.empty()) f.cp.clear(); } }
static bool release_warp(int w, int nt) { int lo = w * 32, hi = std::min(nt, lo + 32); bool any = false; unsigned live = 0, wt = 0;
    for (int i = lo; i < hi; ++i) { if (ST[i] != DONE) live |= 1u << (i - lo); if (ST[i] == WARP) wt |= 1u << (i - lo); }
    while (wt) { int i = lo + __builtin_ctz(wt); unsigned m = F[i].mask, n = F[i].n, need = m & live, got = 0; int kd = F[i].kind;
        for (int j = i; j < hi; ++j) if ((wt >> (j - lo) & 1) && F[j].mask == m && F[j].kind == kd) got |= 1u << (j - lo);
        wt &= ~got; if ((got & need) != need) continue;
        char* slots = g_ring + ((size_t)w * RING + g_ringpos[w]++ % RING) * 32 * 128;
        if (n) for (int l = 0; l < 32; ++l) { if (need >> l & 1) memcpy(slots + 128 * l, DEP[lo + l], n); else memset(slots + 128 * l, 0xff, n); }
        for (int j = lo; j < hi; ++j) if (need >> (j - lo) & 1) { ST[j] = READY; --n_warp; F[j].slots = slots; F[j].arrived = need; } any = true; }
    return any; }
static R run_block(int nt, const std::vector<int>& order, const std::vector<int>& worder) {
    n_done = n_bar = n_warp = 0;
    for (int i = 0; i < nt; ++i) { Fiber& f = F[i]; ST[i] = READY; f.started = false; f.idx = i; f.tid = {i % ch_blockDim.x, i / ch_blockDim.x % ch_blockDim.y, i / (ch_blockDim.x * ch_blockDim.y)}; }
    if (g_poison) { auto it = g_shared.find(K); if (it != g_shared.end()) for (auto& [p, n] : it->second) memset(p, 0xff, n); if (g_smem_n) memset(ch_dynamic_smem(), 0xff, g_smem_n); }
    for (;;) {
        for (int w : worder) do { for (int l : order) { int i = w * 32 + l; if (i < nt && ST[i] == READY) resume(F[i]); } } while (n_warp && release_warp(w, nt));
        int live = nt - n_done; if (!live) return OK;
        if (n_bar != live) { for (int i = 0; i < nt; ++i) if (ST[i] == WARP) { ch_threadIdx = F[i].tid; break; } return fail(LAUNCH_FAILED, "%s: deadlock: some lanes wait in a warp operation, the others at a barrier or a different warp operation", where().c_str()); }
        int first = -1, cnt = 0; bool mixed = false; for (int i = 0; i < nt; ++i) if (ST[i] == BARRIER) { if (first < 0) first = i; mixed |= SITE[i] != SITE[first]; cnt += PRED[i] != 0; ST[i] = READY; }
        if (mixed && g_strict_barrier) { ch_threadIdx = F[first].tid; return fail(LAUNCH_FAILED, "%s: divergent __syncthreads(): threads of the block wait at different call sites", where().c_str()); }
        if (g_op) for (int i = 0; i < nt; ++i) F[i].result = g_op == 1 ? cnt : g_op == 2 ? cnt == live : cnt > 0;
        n_bar = 0; } }
static R run_kernel(const ChKernel* k, dim3 g, dim3 b, unsigned smem, const char* params) {
    int nt = b.x * b.y * b.z, nw = (nt + 31) / 32; ch_stats.launches++;
    if ((int)F.size() < nt) { F.resize(nt); } if (!g_ring) { g_ring = (char*)mmap(nullptr, (size_t)32 * RING * 32 * 128, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); g_ringpos.resize(32);
        size_t n = (SMEM_MAX + 4095) / 4096 * 4096; g_smem = (char*)mmap(nullptr, n + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); mprotect(g_smem + n, 4096, PROT_NONE); }
    K = k; g_params = params; ch_blockDim = b; ch_gridDim = g; g_smem_n = smem;
    std::vector<int> order(32), worder(nw); for (int i = 0; i < 32; ++i) order[i] = g_order == 1 ? 31 - i : i; for (int i = 0; i < nw; ++i) worder[i] = g_order == 1 ? nw - 1 - i : i;
    static char altstk[65536]; stack_t ss{altstk, 0, sizeof altstk}, oss; sigaltstack(&ss, &oss); struct sigaction sa{}, old[4]; sa.sa_sigaction = handler; sa.sa_flags = SA_SIGINFO | SA_ONSTACK; int sg[4] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL}; for (int i = 0; i < 4; ++i) sigaction(sg[i], &sa, &old[i]);
    R rc = OK; uint64_t nb = (uint64_t)g.x * g.y * g.z; uint64_t mul = 1, add = 0;
    if (g_order == 1) { mul = nb - 1; add = nb - 1; } else if (g_order == 2) { do mul = g_rng() % nb; while (std::__gcd(mul ? mul : nb, nb) != 1 && nb > 1); if (nb == 1) mul = 1; add = g_rng() % nb; }
    if (sigsetjmp(g_jmp, 1) == 0) { g_in_kernel = 1;
        for (uint64_t i = 0; i < nb && !rc; ++i) { uint64_t l = ((unsigned __int128)i * mul + add) % nb; ch_blockIdx = {(unsigned)(l % g.x), (unsigned)(l / g.x % g.y), (unsigned)(l / ((uint64_t)g.x * g.y))};
            if (g_order == 2) { std::shuffle(order.begin(), order.end(), g_rng); std::shuffle(worder.begin(), worder.end(), g_rng); }
            rc = run_block(nt, order, worder); }
    } else rc = g_fault;
    g_in_kernel = 0; for (int i = 0; i < 4; ++i) sigaction(sg[i], &old[i], nullptr); sigaltstack(&oss, nullptr);
    if (rc) { for (auto& f : F) { if (f.stack) { g_stacks.push_back(f.stack); f.stack = nullptr; } f.cp.clear(); } g_sticky = rc; }
    return rc; }

// ------------------------------------------------------------------ streams, events, graphs
struct Graph; typedef std::function<R()> Op; struct Stream { std::deque<Op> q; uint64_t head = 0, tail = 0; Graph* cap = nullptr; bool blocking = true; bool origin = false; };
struct Event { Stream* s = nullptr; uint64_t seq = 0; timespec t{}; bool recorded = false, fired = false; Graph* cap = nullptr; }; struct Graph { std::vector<Op> ops; int mode = 0; }; struct Exec { std::vector<Op> ops; };
static Stream g_null; static std::set<Stream*> g_streams; static Graph* g_capturing = nullptr;
static R step(Stream* s) { Op op = std::move(s->q.front()); s->q.pop_front(); s->head++; R r = g_sticky ? g_sticky : op(); return r; }
static R drain(Stream* s, uint64_t upto = ~0ull) { R r = OK; while (!s->q.empty() && s->head < upto) { R e = step(s); if (e) r = e; } return r; }
static R drain_all() { R r = OK; std::vector<Stream*> v(g_streams.begin(), g_streams.end()); if (g_lazy == 2) std::shuffle(v.begin(), v.end(), g_rng); for (auto s : v) { R e = drain(s); if (e) r = e; } return r ? r : g_sticky; }
static R enqueue(Stream* s, Op op) {
    if (g_sticky) return g_sticky; if (!s) s = &g_null;
    if (s->cap) { s->cap->ops.push_back(std::move(op)); return OK; }
    if (s == &g_null) { if (g_capturing) return fail(CAP_IMPLICIT, "work on the default stream while another stream is capturing"); if (R e = drain_all()) return e; return op(); }
    s->q.push_back(std::move(op)); s->tail++; if (g_lazy == 0) return drain(s);
    if (g_lazy == 2) for (auto x : g_streams) if (g_rng() % 3 == 0 && !x->q.empty()) step(x); return OK; }
static R sync_guard() { if (g_capturing && g_capturing->mode == 0) return fail(CAP_UNSUPPORTED, "a synchronizing or allocating call while a stream captures in global mode"); return OK; }
#define SYNC if (R e_ = sync_guard()) return e_; if (R e_ = drain_all()) return e_
API R cuStreamCreate(Stream** s, unsigned fl) { *s = new Stream; (*s)->blocking = !(fl & 1); g_streams.insert(*s); return OK; }
API R cuStreamCreateWithPriority(Stream** s, unsigned fl, int) { return cuStreamCreate(s, fl); }
API R cuStreamDestroy_v2(Stream* s) { drain(s); g_streams.erase(s); delete s; return OK; }
API R cuStreamSynchronize(Stream* s) { if (R e = sync_guard()) return e; if (!s) return drain_all(); R e = drain(s); return e ? e : g_sticky; }
API R cuStreamQuery(Stream* s) { return !s || s->q.empty() ? OK : NOT_READY; }
API R cuStreamWaitEvent(Stream* s, Event* e, unsigned) { if (e->cap) { if (s) s->cap = e->cap; return OK; } if (!e->recorded) return OK; Stream* o = e->s; uint64_t q = e->seq; return enqueue(s, [o, q] { return g_streams.count(o) ? drain(o, q) : OK; }); }
API R cuEventCreate(Event** e, unsigned) { *e = new Event; return OK; }
API R cuEventDestroy_v2(Event* e) { if (e->s && g_streams.count(e->s)) drain(e->s, e->seq); delete e; return OK; }
API R cuEventRecord(Event* e, Stream* s) { if (s && s->cap) { e->cap = s->cap; return OK; } e->cap = nullptr; e->s = s; e->recorded = true; e->fired = false; if (s) e->seq = s->tail + 1; return enqueue(s, [e] { clock_gettime(CLOCK_MONOTONIC, &e->t); e->fired = true; return (R)OK; }); }
API R cuEventQuery(Event* e) { return !e->recorded || e->fired ? OK : NOT_READY; }
API R cuEventSynchronize(Event* e) { if (R x = sync_guard()) return x; if (e->recorded && !e->fired && e->s && g_streams.count(e->s)) drain(e->s, e->seq); return g_sticky; }
API R cuEventElapsedTime_v2(float* ms, Event* a, Event* b) { if (!a->recorded || !b->recorded) return INVALID_HANDLE; if (!a->fired || !b->fired) return NOT_READY; *ms = (b->t.tv_sec - a->t.tv_sec) * 1e3 + (b->t.tv_nsec - a->t.tv_nsec) * 1e-6; return OK; }
API R cuEventElapsedTime(float* ms, Event* a, Event* b) { return cuEventElapsedTime_v2(ms, a, b); }
API R cuStreamBeginCapture_v2(Stream* s, int mode) { if (!s) return fail(CAP_UNSUPPORTED, "the default stream cannot capture"); if (g_capturing) return CAP_UNSUPPORTED; s->cap = g_capturing = new Graph; g_capturing->mode = mode; s->origin = true; return OK; }
API R cuStreamEndCapture(Stream* s, Graph** g) { if (!s->cap) return INVALID_VALUE; *g = s->cap; for (auto x : g_streams) if (x->cap == *g) x->cap = nullptr; g_capturing = nullptr; return OK; }
API R cuGraphInstantiate_v2(Exec** e, Graph* g, void*, char*, size_t);
API R cuStreamIsCapturing(Stream* s, int* st) { *st = s && s->cap ? 1 : 0; return OK; }
API R cuGraphGetNodes(Graph* g, void**, size_t* n) { *n = g->ops.size(); return OK; }
API R cuGraphInstantiateWithFlags(Exec** e, Graph* g, unsigned long long) { *e = new Exec{g->ops}; return OK; }
API R cuGraphInstantiate_v2(Exec** e, Graph* g, void*, char*, size_t) { *e = new Exec{g->ops}; return OK; }
API R cuGraphLaunch(Exec* e, Stream* s) { ch_stats.graph_launches++; for (auto& op : e->ops) { ch_stats.graph_nodes++; if (R r = enqueue(s, op)) return r; } return OK; }
API R cuGraphUpload(Exec*, Stream*) { return OK; }
API R cuGraphDestroy(Graph* g) { delete g; return OK; } API R cuGraphExecDestroy(Exec* e) { delete e; return OK; }

// ------------------------------------------------------------------ device, context
struct Ctx { int refs; }; static Ctx g_primary; static std::vector<Ctx*> g_ctx;
static const std::map<int, int> ATTR = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {9, 65536}, {10, 32}, {12, 65536}, {13, 1980000}, {14, 512}, {16, 132}, {31, 1}, {36, 3201000}, {37, 6144}, {38, 62914560}, {39, 2048}, {40, 3}, {41, 1}, {75, 9}, {76, 0}, {81, 233472}, {82, 65536}, {95, 1}, {97, 232448}, {106, 32}, {111, 1024}, {115, 1}};
API R cuInit(unsigned) { if (!g_devices) return 100; g_inited = true; return OK; }
API R cuDriverGetVersion(int* v) { *v = 13000; return OK; }
API R cuDeviceGet(int* d, int i) { if (!g_inited) return NOT_INIT; *d = i; return i >= 0 && i < g_devices ? OK : 101; } API R cuDeviceGetCount(int* n) { if (!g_inited) return NOT_INIT; *n = g_devices; return OK; }
API R cuDeviceGetName(char* b, int n, int) { snprintf(b, n, "cudahost CPU emulation (sm_90)"); return OK; } API R cuDeviceComputeCapability(int* a, int* b, int) { *a = g_capability / 10; *b = g_capability % 10; return OK; }
API R cuDeviceTotalMem_v2(size_t* n, int) { *n = g_total; return OK; } API R cuDeviceGetAttribute(int* v, int a, int) { if (a == 75) { *v = g_capability / 10; return OK; } if (a == 76) { *v = g_capability % 10; return OK; } auto it = ATTR.find(a); *v = it == ATTR.end() ? 0 : it->second; return OK; }
API R cuDeviceGetPCIBusId(char* b, int n, int) { snprintf(b, n, "0000:00:00.0"); return OK; } API R cuDeviceGetByPCIBusId(int* d, const char*) { *d = 0; return OK; } API R cuDeviceCanAccessPeer(int* c, int, int) { *c = 0; return OK; }
API R cuCtxCreate_v4(Ctx** c, void*, unsigned, int) { *c = new Ctx{1}; g_ctx.push_back(*c); return OK; } API R cuCtxCreate_v2(Ctx** c, unsigned f, int d) { return cuCtxCreate_v4(c, nullptr, f, d); }
API R cuCtxDestroy_v2(Ctx* c) { g_ctx.erase(std::remove(g_ctx.begin(), g_ctx.end(), c), g_ctx.end()); return OK; } API R cuCtxDetach(Ctx* c) { return cuCtxDestroy_v2(c); } API R cuCtxAttach(Ctx** c, unsigned) { if (g_ctx.empty()) return INVALID_CONTEXT; *c = g_ctx.back(); return OK; }
API R cuCtxPushCurrent_v2(Ctx* c) { g_ctx.push_back(c); return OK; } API R cuCtxPopCurrent_v2(Ctx** c) { if (g_ctx.empty()) return INVALID_CONTEXT; if (c) *c = g_ctx.back(); g_ctx.pop_back(); return OK; }
API R cuCtxGetCurrent(Ctx** c) { *c = g_ctx.empty() ? nullptr : g_ctx.back(); return OK; } API R cuCtxSetCurrent(Ctx* c) { if (g_ctx.empty()) g_ctx.push_back(c); else g_ctx.back() = c; return OK; }
API R cuCtxGetDevice(int* d) { if (g_ctx.empty()) return INVALID_CONTEXT; *d = 0; return OK; } API R cuCtxSynchronize() { SYNC; return g_sticky; } API R cuCtxGetApiVersion(Ctx*, unsigned* v) { *v = 13000; return OK; }
API R cuDevicePrimaryCtxRetain(Ctx** c, int) { *c = &g_primary; g_primary.refs++; return OK; } API R cuDevicePrimaryCtxRelease_v2(int) { g_primary.refs--; return OK; }
API R cuCtxGetLimit(size_t* v, int) { *v = 1024; return OK; } API R cuCtxSetLimit(int, size_t) { return OK; } API R cuCtxSetCacheConfig(int) { return OK; } API R cuCtxGetCacheConfig(int* c) { *c = 0; return OK; } API R cuProfilerStart() { return OK; } API R cuProfilerStop() { return OK; }
static R error_text(R r, const char** s);
API R cuGetErrorString(R r, const char** s) { static std::string t; error_text(r, s); if (r && !g_lastmsg.empty()) { t = std::string(*s) + ": " + g_lastmsg; *s = t.c_str(); } return OK; }
static R error_text(R r, const char** s) { switch (r) { case 0: *s = "no error"; break; case 1: *s = "invalid argument"; break; case 2: *s = "out of memory"; break; case 200: *s = "device kernel image is invalid"; break; case 500: *s = "named symbol not found"; break; case 100: *s = "no CUDA-capable device is detected"; break; case 101: *s = "invalid device ordinal"; break; case 600: *s = "device not ready"; break; case 700: *s = "an illegal memory access was encountered"; break; case 701: *s = "too many resources requested for launch"; break; case 710: *s = "device-side assert triggered"; break; case 719: *s = "unspecified launch failure"; break; case 900: *s = "operation not permitted when stream is capturing"; break; case 906: *s = "operation would make the legacy stream depend on a capturing blocking stream"; break; default: *s = "cudahost error"; } return OK; }
API R cuGetErrorName(R, const char** s) { *s = "CUDA_ERROR"; return OK; }

// ------------------------------------------------------------------ memory API
static size_t g_live = 0;
API R cuMemAlloc_v2(P* p, size_t n) { if (R e = sync_guard()) return e; if (!n) return INVALID_VALUE; if (g_sticky) return g_sticky; if (g_live + n > g_total) return fail(OOM, "out of memory: %zu bytes asked, %zu of %zu in use", n, (size_t)g_live, g_total);
    size_t body = (n + 4095) / 4096 * 4096, len = body + 8192; char* m = (char*)mmap(nullptr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); if (m == MAP_FAILED) return OOM; mprotect(m, 4096, PROT_NONE); mprotect(m + 4096 + body, 4096, PROT_NONE);
    size_t r = (n + g_align - 1) / g_align * g_align; if (r > body) r = body; P q = (P)m + 4096 + body - r; if (g_poison) memset(m + 4096, 0xff, body);
    g_mem[q] = {(P)m, len, n, ++g_ids}; g_live += n; ch_stats.allocs++; ch_stats.bytes_live = g_live; ch_stats.bytes_peak = std::max<uint64_t>(ch_stats.bytes_peak, g_live); *p = q; return OK; }
API R cuMemFree_v2(P p) { if (R e = sync_guard()) return e; auto it = g_mem.find(p); if (it == g_mem.end()) return fail(INVALID_VALUE, "cuMemFree of %p, which is no live allocation", (void*)p); drain_all(); Alloc a = it->second; R rc = OK;
    if (g_poison) { P e = p + a.size; for (P x = a.map + 4096; x < p; ++x) if (*(unsigned char*)x != 0xff) { rc = fail(OK, "allocation #%lu (%zu bytes): %lu bytes before its start were written", (unsigned long)a.id, a.size, (unsigned long)(p - x)); break; } for (P x = e; x < a.map + a.maplen - 4096; ++x) if (*(unsigned char*)x != 0xff) { rc = fail(OK, "allocation #%lu (%zu bytes): the byte %lu past its end was written", (unsigned long)a.id, a.size, (unsigned long)(x - e)); break; } }
    g_live -= a.size; ch_stats.bytes_live = g_live; g_freed.push_front({p, p + a.size, a.size, a.id}); if (g_freed.size() > 64) g_freed.pop_back(); munmap((void*)a.map, a.maplen); g_mem.erase(it); return rc; }
API R cuMemAllocPitch_v2(P* p, size_t* pitch, size_t w, size_t h, unsigned) { *pitch = (w + 511) / 512 * 512; return cuMemAlloc_v2(p, *pitch * h); }
API R cuMemAllocManaged(P* p, size_t n, unsigned) { return cuMemAlloc_v2(p, n); }
API R cuMemAllocAsync(P* p, size_t n, Stream*) { return cuMemAlloc_v2(p, n); } API R cuMemFreeAsync(P p, Stream*) { return cuMemFree_v2(p); }
API R cuMemGetInfo_v2(size_t* f, size_t* t) { *t = g_total; *f = *t - g_live; return OK; }
API R cuMemGetAddressRange_v2(P* b, size_t* n, P p) { P q; Alloc* a = find(p, &q); if (!a) return INVALID_VALUE; if (b) *b = q; if (n) *n = a->size; return OK; }
API R cuMemHostAlloc(void** p, size_t n, unsigned) { *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096); g_pinned[(P)*p] = n; return OK; } API R cuMemFreeHost(void* p) { drain_all(); g_pinned.erase((P)p); free(p); return OK; }
API R cuMemHostRegister_v2(void* p, size_t n, unsigned) { g_pinned[(P)p] = n; return OK; } API R cuMemHostUnregister(void* p) { g_pinned.erase((P)p); return OK; } API R cuMemHostGetDevicePointer_v2(P* d, void* h, unsigned) { *d = (P)h; return OK; }
#define CHK(d, n) if (!in_range(d, n)) return fail(INVALID_VALUE, "%s: device range %p + %zu lies outside any allocation", __func__, (void*)(d), (size_t)(n))
API R cuMemcpyHtoD_v2(P d, const void* h, size_t n) { SYNC; CHK(d, n); memcpy((void*)d, h, n); ch_stats.h2d++; ch_stats.h2d_bytes += n; return OK; }
API R cuMemcpyDtoH_v2(void* h, P d, size_t n) { SYNC; CHK(d, n); memcpy(h, (void*)d, n); ch_stats.d2h++; ch_stats.d2h_bytes += n; return OK; }
API R cuMemcpyDtoD_v2(P d, P s, size_t n) { SYNC; CHK(d, n); CHK(s, n); memmove((void*)d, (void*)s, n); ch_stats.d2d++; return OK; }
API R cuMemcpyHtoDAsync_v2(P d, const void* h, size_t n, Stream* s) { CHK(d, n); ch_stats.h2d++; ch_stats.h2d_bytes += n; if (pinned(h, n) || (s && s->cap)) return enqueue(s, [=] { memcpy((void*)d, h, n); return (R)OK; }); auto b = std::make_shared<std::string>((const char*)h, n); return enqueue(s, [=] { memcpy((void*)d, b->data(), n); return (R)OK; }); }
API R cuMemcpyDtoHAsync_v2(void* h, P d, size_t n, Stream* s) { CHK(d, n); ch_stats.d2h++; ch_stats.d2h_bytes += n; R r = enqueue(s, [=] { memcpy(h, (void*)d, n); return (R)OK; }); if (!r && !pinned(h, n) && s && !s->cap) r = drain(s); return r; }
API R cuMemcpyDtoDAsync_v2(P d, P q, size_t n, Stream* s) { CHK(d, n); CHK(q, n); ch_stats.d2d++; return enqueue(s, [=] { memmove((void*)d, (void*)q, n); return (R)OK; }); }
template<class T> static R fill(P d, T v, size_t n, Stream* s, bool sync) { if (!in_range(d, n * sizeof(T))) return fail(INVALID_VALUE, "memset outside any allocation"); if (sync) { SYNC; } auto f = [=] { std::fill_n((T*)d, n, v); return (R)OK; }; return sync ? f() : enqueue(s, f); }
API R cuMemsetD8_v2(P d, unsigned char v, size_t n) { return fill(d, v, n, nullptr, true); } API R cuMemsetD16_v2(P d, unsigned short v, size_t n) { return fill(d, v, n, nullptr, true); } API R cuMemsetD32_v2(P d, unsigned v, size_t n) { return fill(d, v, n, nullptr, true); }
API R cuMemsetD8Async(P d, unsigned char v, size_t n, Stream* s) { return fill(d, v, n, s, false); } API R cuMemsetD16Async(P d, unsigned short v, size_t n, Stream* s) { return fill(d, v, n, s, false); } API R cuMemsetD32Async(P d, unsigned v, size_t n, Stream* s) { return fill(d, v, n, s, false); }

// ------------------------------------------------------------------ modules, launches
struct Module { void* h; std::map<std::string, struct Func*> fn; }; struct Func { const ChKernel* k; unsigned dyn_max = 49152; unsigned sx = 0; };
static R load(Module** m, const void* img, size_t n) { char p[] = "./cudahost-XXXXXX"; int fd = mkstemp(p); for (size_t o = 0; o < n;) { ssize_t w = write(fd, (const char*)img + o, n - o); if (w <= 0) break; o += w; } close(fd); void* h = dlopen(p, RTLD_NOW | RTLD_LOCAL); std::string e = h ? "" : dlerror(); unlink(p); if (!h) return fail(INVALID_IMAGE, "module is no hostnvcc image: %s", e.c_str()); *m = new Module{h, {}}; return OK; }
static size_t image_size(const void* p) { const unsigned char* b = (const unsigned char*)p; if (memcmp(b, "\177ELF", 4)) return 0; uint64_t shoff; uint16_t es, ns, mach; memcpy(&shoff, b + 40, 8); memcpy(&es, b + 58, 2); memcpy(&ns, b + 60, 2); memcpy(&mach, b + 18, 2); return mach == 190 ? 0 : shoff + (uint64_t)es * ns; }
API R cuModuleLoadData(Module** m, const void* img) { size_t n = image_size(img); if (!n) return fail(INVALID_IMAGE, "module image is not from hostnvcc (a real cubin or PTX cannot run here)"); return load(m, img, n); }
API R cuModuleLoadDataEx(Module** m, const void* img, unsigned n, int* opt, void** val) { for (unsigned i = 0; i < n; ++i) if (opt[i] == 4 || opt[i] == 6) val[i] = nullptr; return cuModuleLoadData(m, img); }
API R cuModuleLoad(Module** m, const char* path) { void* h = dlopen(path, RTLD_NOW | RTLD_LOCAL); if (!h) return fail(INVALID_IMAGE, "%s", dlerror()); *m = new Module{h, {}}; return OK; }
API R cuModuleUnload(Module* m) { drain_all(); return OK; }
API R cuModuleGetFunction(Func** f, Module* m, const char* name) { auto& x = m->fn[name]; if (!x) { auto k = (const ChKernel*)dlsym(m->h, (std::string("ch_kernel_") + name).c_str()); if (!k || k->magic != 0xC0DA) { m->fn.erase(name); return fail(NOT_FOUND, "no kernel named %s (is it extern \"C\"?)", name); } x = new Func{k}; } *f = x; return OK; }
API R cuModuleGetGlobal_v2(P* p, size_t* n, Module* m, const char* name) { void* s = dlsym(m->h, name); if (!s) return NOT_FOUND; Dl_info di; struct Sym { uint32_t nm; unsigned char i, o; uint16_t sh; uint64_t v, size; }* es = nullptr; dladdr1(s, &di, (void**)&es, RTLD_DL_SYMENT); if (p) *p = (P)s; if (n) *n = es ? es->size : 0; g_mem[(P)s] = {(P)s, 0, es ? es->size : 1, ++g_ids}; return OK; }
API R cuFuncGetAttribute(int* v, int a, Func* f) { size_t sh = 0; for (auto& x : g_shared[f->k]) sh += x.second; switch (a) { case 0: *v = f->k->max_threads; break; case 1: *v = sh; break; case 8: *v = f->dyn_max; break; case 5: case 6: *v = 90; break; default: *v = 0; } return OK; }
API R cuFuncSetAttribute(Func* f, int a, int v) { if (a == 8) { if (v > 232448) return INVALID_VALUE; f->dyn_max = std::max(49152, v); } return OK; } API R cuFuncSetCacheConfig(Func*, int) { return OK; } API R cuFuncSetSharedMemConfig(Func*, int) { return OK; } API R cuFuncSetBlockShape(Func*, int x, int y, int z) { return x > 0 && y > 0 && z > 0 ? OK : INVALID_VALUE; } API R cuFuncSetSharedSize(Func*, unsigned) { return OK; }
API R cuLaunchKernel(Func* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned smem, Stream* s, void** params, void** extra) {
    if (g_sticky) return g_sticky; if (!f) return INVALID_HANDLE; const ChKernel* k = f->k; uint64_t nt = (uint64_t)bx * by * bz;
    if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || gx > 2147483647u) return fail(INVALID_VALUE, "%s: bad grid (%u,%u,%u)", k->name, gx, gy, gz);
    if (!nt || nt > 1024 || bz > 64) return fail(INVALID_VALUE, "%s: bad block (%u,%u,%u)", k->name, bx, by, bz);
    if (nt > k->max_threads) return fail(INVALID_VALUE, "%s: block of %lu threads, but __launch_bounds__(%u)", k->name, (unsigned long)nt, k->max_threads);
    if (smem > f->dyn_max) return fail(INVALID_VALUE, "%s: %u bytes of dynamic shared memory, limit %u (raise it with set_attribute(MAX_DYNAMIC_SHARED_SIZE_BYTES))", k->name, smem, f->dyn_max);
    std::string buf(k->param_bytes + 16, '\0');
    if (params) for (unsigned i = 0; i < k->nparams; ++i) memcpy(&buf[k->off[i]], params[i], k->size[i]);
    else if (extra) { const void* p = nullptr; size_t n = 0; for (void** e = extra; *e; e += 2) { if (*e == (void*)1) p = e[1]; else if (*e == (void*)2) n = *(size_t*)e[1]; } if (n != k->param_bytes && n != (k->param_bytes + 7) / 8 * 8) return fail(INVALID_VALUE, "%s: %zu bytes of arguments given, the kernel takes %u", k->name, n, k->param_bytes); memcpy(&buf[0], p, std::min<size_t>(n, k->param_bytes)); }
    else if (k->nparams) return INVALID_VALUE;
    auto b = std::make_shared<std::string>(std::move(buf)); dim3 g{gx, gy, gz}, bl{bx, by, bz};
    if (g_fail_launch >= 0 && g_fail_launch-- == 0) return g_sticky = fail(LAUNCH_FAILED, "%s: this launch was asked to fail", k->name);
    return enqueue(s, [=] { g_launches[k->name]++; return run_kernel(k, g, bl, smem, b->data()); }); }
