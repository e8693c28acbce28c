/* A stand-in for libcuda.so.1 whose allocations move the state of nvml.c's GPUs (FAKE_NVML_STATE). As with a real
 * driver, memory comes back when its process ends, even by kill -9: a guardian process plays the kernel. Faults come
 * by environment: FAKE_CUDA_HANG=function:N, whose Nth call hangs, FAKE_CUDA_WAIT=function:N, whose Nth call waits
 * until there is a file FAKE_CUDA_GO, FAKE_CUDA_CRASH=function:N, FAKE_CUDA_INIT=error,
 * FAKE_CUDA_ROOM=bytes that can be taken, FAKE_CUDA_SHOWN=percent that NVML sees, FAKE_CUDA_KEEP=1: nothing comes back, FAKE_CUDA_HIDDEN=N:
 * the last N GPUs are not shown. Built by fake_cuda.py. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct gpu {
    uint64_t total, used, reserved, throttle;
    uint32_t util, temp, power_mw, limit_mw, error, memory_v2_error, memory_v1_error;
    uint32_t lacks, hidden, parent, mig, xid, xid_instance, restless;
};
static struct state { uint32_t init_error, hang, count, opened; struct gpu gpu[16]; } *S;
static struct { uint64_t bytes, seen; struct gpu *gpu; } *held;  /* shared with the guardian */
static struct { uint64_t address, size; } taken[256];
static unsigned taken_count;
enum { OK, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201 };
#define CONTEXT (500ull << 20)

static uint64_t number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, 0, 10) : otherwise;
}
static int strikes(const char *fault, const char *function, unsigned call) {
    char here[99];
    snprintf(here, sizeof here, "%s:%u", function, call);
    const char *wanted = getenv(fault);
    return wanted && !strcmp(wanted, here);
}
static void suffer(const char *function, unsigned call) {
    if (strikes("FAKE_CUDA_CRASH", function, call)) abort();
    while (strikes("FAKE_CUDA_HANG", function, call)) usleep(1000);
    while (strikes("FAKE_CUDA_WAIT", function, call) && access(getenv("FAKE_CUDA_GO"), F_OK)) usleep(1000);
}
#define HANG static unsigned calls; suffer(__func__, ++calls)

static void move(int64_t size) {  /* what NVML sees of it */
    int64_t seen = size * (int64_t)number("FAKE_CUDA_SHOWN", 100) / 100;
    held->bytes += (uint64_t)size;
    held->seen += (uint64_t)seen;
    __sync_add_and_fetch(&held->gpu->used, (uint64_t)seen);
}
static void guard(void) {  /* give back what this process holds when it is gone, however it went */
    int ends[2];
    if (pipe(ends) || fork()) { close(ends[0]); return; }
    setsid();
    for (int fd = 0; fd < 1024; fd++) if (fd != ends[0]) close(fd);
    char nothing;
    while (read(ends[0], &nothing, 1) > 0) {}
    if (held->gpu && !getenv("FAKE_CUDA_KEEP")) __sync_sub_and_fetch(&held->gpu->used, held->seen);
    _exit(0);
}
int cuInit(unsigned flags) {
    HANG;
    const char *path = getenv("FAKE_NVML_STATE");
    if (flags || !path) return INVALID;
    if (getenv("FAKE_CUDA_INIT")) return (int)number("FAKE_CUDA_INIT", 0);
    int fd = open(path, O_RDWR);
    if (fd < 0) return NO_DEVICE;
    S = mmap(0, sizeof *S, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    held = mmap(0, sizeof *held, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    close(fd);
    guard();
    return OK;
}
int cuDriverGetVersion(int *version) { *version = 13010; return OK; }
static int shown(void) { return (int)(S->count - number("FAKE_CUDA_HIDDEN", 0)); }
int cuDeviceGetCount(int *count) { *count = shown(); return OK; }
int cuDeviceGet(int *device, int index) { *device = shown() - 1 - index; return OK; }  /* not NVML's order */
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    memset(uuid, 0, 16);
    uuid[3] = (unsigned char)device;
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    HANG;
    held->gpu = &S->gpu[device];
    move(CONTEXT);
    *context = S;
    return OK;
}
int cuCtxSetCurrent(void *context) { return context == S ? OK : INVALID_CONTEXT; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; HANG; move(-(int64_t)CONTEXT); return OK; }
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    HANG;
    if (held->bytes + size > number("FAKE_CUDA_ROOM", held->gpu->total)) return OUT_OF_MEMORY;
    *address = 0x700000000000ull + (uint64_t)taken_count * (1ull << 36);
    taken[taken_count].address = *address;
    taken[taken_count++].size = size;
    move((int64_t)size);
    return OK;
}
int cuMemsetD8_v2(uint64_t address, unsigned char value, size_t size) {
    HANG;
    for (unsigned i = 0; i < taken_count; i++)
        if (taken[i].address == address && taken[i].size >= size && value) return OK;
    return INVALID;
}
int cuCtxSynchronize(void) { HANG; return OK; }
int cuMemFree_v2(uint64_t address) {
    HANG;
    if (!taken_count || taken[taken_count - 1].address != address) return INVALID;
    move(-(int64_t)taken[--taken_count].size);
    return OK;
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *total = held->gpu->total;
    *free_bytes = *total - held->gpu->used - held->gpu->reserved;
    return OK;
}
int cuGetErrorName(int error, const char **text) {
    switch (error) {
        case OUT_OF_MEMORY: *text = "CUDA_ERROR_OUT_OF_MEMORY"; return OK;
        case 803: *text = "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"; return OK;
        default: return INVALID;
    }
}
int cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : "system has unsupported display driver / cuda driver combination";
    return OK;
}
