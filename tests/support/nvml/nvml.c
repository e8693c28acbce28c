/* A stand-in for libnvidia-ml.so.1 that unmodified nvidia-ml-py accepts. Its state is a file that a test maps too
 * (FAKE_NVML_STATE): so memory moves, GPUs get lost and calls hang while a sampler runs. Built by fake_nvml.py.
 * Record k of `gpu` is a whole GPU if its `parent` is 0, else a MIG instance of record `parent - 1`. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, NO_FILE = 9, TIMEOUT = 10, OLD = 25 };
enum { UTIL = 1, TEMP = 2, POWER = 4, LIMIT = 8, THROTTLE = 16, EVENTS = 32 };  /* bits of `lacks` */

typedef int Ret;
typedef struct gpu {
    uint64_t total, used, reserved, throttle;
    uint32_t util, temp, power_mw, limit_mw;
    uint32_t error;            /* what every call on it answers, 0: all is well */
    uint32_t memory_v2_error;  /* what version 2 of the memory question answers */
    uint32_t memory_v1_error;
    uint32_t lacks, hidden, parent, mig, xid, xid_instance;
    uint32_t restless;         /* bytes that it is found to use more at each question: somebody else works on it */
} *Dev;
static struct state { uint32_t init_error, hang, count, opened; struct gpu gpu[16]; } none, *S = &none;
static int up;

static void maybe_hang(void) { while (*(volatile uint32_t *)&S->hang) usleep(1000); }
static int is_whole(unsigned i) { return !S->gpu[i].parent && !S->gpu[i].hidden; }
#define NEED maybe_hang(); if (!up) return UNINITIALIZED
#define DEV(d) NEED; if (!d) return INVALID; if ((d)->error) return (Ret)(d)->error
#define LACK(d, bit) DEV(d); if ((d)->lacks & (bit)) return NOT_SUPPORTED

Ret nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    static char mapped[4096];
    const char *path = getenv("FAKE_NVML_STATE");
    if (!path) return NO_FILE;
    if (strcmp(path, mapped)) {
        int fd = open(path, O_RDWR);
        if (fd < 0) return NO_FILE;
        S = mmap(0, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        snprintf(mapped, sizeof mapped, "%s", path);
    }
    maybe_hang();
    if (S->init_error) return (Ret)S->init_error;
    up++;
    S->opened++;
    return OK;
}
Ret nvmlShutdown(void) { NEED; up--; return OK; }
const char *nvmlErrorString(Ret ret) {
    switch (ret) {
        case 3: return "Not Supported";
        case 9: return "Driver Not Loaded";
        case 15: return "GPU is lost";
        case 16: return "GPU requires reset";
        case 18: return "Driver/library version mismatch";
        case 999: return "Unknown Error";
        default: return "Some Error";
    }
}
Ret nvmlSystemGetConfComputeSettings(uint32_t *settings) { NEED; settings[4] = 7; return OK; }
Ret nvmlSystemGetDriverVersion(char *text, unsigned size) { NEED; snprintf(text, size, "580.126.09"); return OK; }
Ret nvmlSystemGetCudaDriverVersion_v2(int *version) { NEED; *version = 13000; return OK; }
Ret nvmlDeviceGetCount_v2(unsigned *count) {
    NEED; *count = 0;
    for (unsigned i = 0; i < S->count; i++) *count += is_whole(i);
    return OK;
}
Ret nvmlDeviceGetHandleByIndex_v2(unsigned index, Dev *dev) {
    NEED;
    for (unsigned i = 0; i < S->count; i++) if (is_whole(i) && !index--) { *dev = &S->gpu[i]; return OK; }
    return INVALID;
}
Ret nvmlDeviceGetUUID(Dev dev, char *text, unsigned size) {
    DEV(dev);
    const char *rest = getenv("FAKE_NVML_UUIDS") ? "0000-0000-0000-000000000000" : "fake";  /* as cuda.c tells them */
    snprintf(text, size, "%s-%08lx-%s", dev->parent ? "MIG" : "GPU", (long)(dev - S->gpu), rest); return OK;
}
Ret nvmlDeviceGetHandleByUUID(const char *wanted, Dev *out) {
    NEED; char known[96];
    for (unsigned i = 0; i < S->count; i++) {
        Ret ret = nvmlDeviceGetUUID(&S->gpu[i], known, sizeof known);
        if (!ret && !strcmp(known, wanted)) { *out = &S->gpu[i]; return OK; }
    }
    return NOT_FOUND;
}
Ret nvmlDeviceGetName(Dev dev, char *text, unsigned size) {
    DEV(dev); snprintf(text, size, dev->parent ? "NVIDIA H100 MIG 3g.40gb" : "NVIDIA H100 80GB"); return OK;
}

static uint64_t used(Dev dev) {  /* others move it too */
    return dev->restless ? __sync_add_and_fetch(&dev->used, dev->restless) : dev->used;
}
struct memory { uint64_t total, free, used; };
struct memory_v2 { uint32_t version; uint64_t total, reserved, free, used; };
Ret nvmlDeviceGetMemoryInfo(Dev dev, struct memory *out) {
    DEV(dev); if (dev->memory_v1_error) return (Ret)dev->memory_v1_error;
    out->total = dev->total; out->used = used(dev) + dev->reserved; out->free = out->total - out->used; return OK;
}
#ifndef OLD_DRIVER
Ret nvmlDeviceGetMemoryInfo_v2(Dev dev, struct memory_v2 *out) {
    DEV(dev); if (dev->memory_v2_error) return (Ret)dev->memory_v2_error;
    if (out->version != 0x02000028) return OLD;
    out->total = dev->total; out->used = used(dev); out->reserved = dev->reserved;
    out->free = out->total - out->used - out->reserved; return OK;
}
#define nvmlDeviceGetThrottle nvmlDeviceGetCurrentClocksEventReasons
#else
#define nvmlDeviceGetThrottle nvmlDeviceGetCurrentClocksThrottleReasons
#endif
Ret nvmlDeviceGetThrottle(Dev dev, unsigned long long *out) { LACK(dev, THROTTLE); *out = dev->throttle; return OK; }
Ret nvmlDeviceGetUtilizationRates(Dev dev, unsigned *out) { LACK(dev, UTIL); out[0] = out[1] = dev->util; return OK; }
Ret nvmlDeviceGetTemperature(Dev dev, int sensor, unsigned *out) { (void)sensor; LACK(dev, TEMP); *out = dev->temp; return OK; }
Ret nvmlDeviceGetPowerUsage(Dev dev, unsigned *out) { LACK(dev, POWER); *out = dev->power_mw; return OK; }
Ret nvmlDeviceGetEnforcedPowerLimit(Dev dev, unsigned *out) { LACK(dev, LIMIT); *out = dev->limit_mw; return OK; }

Ret nvmlDeviceGetMigMode(Dev dev, unsigned *now, unsigned *pending) {
    DEV(dev); if (dev->mig > 1) return NOT_SUPPORTED; *now = *pending = dev->mig; return OK;
}
Ret nvmlDeviceGetMaxMigDeviceCount(Dev dev, unsigned *count) { DEV(dev); *count = 7; return OK; }
Ret nvmlDeviceGetMigDeviceHandleByIndex(Dev dev, unsigned index, Dev *out) {
    DEV(dev);
    for (unsigned i = 0; i < S->count; i++)
        if (S->gpu[i].parent == (uint32_t)(dev - S->gpu) + 1 && !S->gpu[i].hidden && !index--) { *out = &S->gpu[i]; return OK; }
    return NOT_FOUND;
}
Ret nvmlDeviceGetGpuInstanceId(Dev dev, unsigned *out) { DEV(dev); *out = (unsigned)(dev - S->gpu); return OK; }

struct event { Dev dev; unsigned long long type, data; unsigned instance, compute; };
Ret nvmlEventSetCreate(void **set) { static int it; NEED; *set = &it; return OK; }
Ret nvmlEventSetFree(void *set) { (void)set; return OK; }
Ret nvmlDeviceGetSupportedEventTypes(Dev dev, unsigned long long *out) { LACK(dev, EVENTS); *out = 0x1f; return OK; }
Ret nvmlDeviceRegisterEvents(Dev dev, unsigned long long types, void *set) { (void)types; (void)set; LACK(dev, EVENTS); return OK; }
Ret nvmlEventSetWait_v2(void *set, struct event *out, unsigned ms) {
    (void)set; NEED;
    for (unsigned waited = 0;; waited += 10) {
        for (unsigned i = 0; i < S->count; i++) {
            uint32_t code = __sync_lock_test_and_set(&S->gpu[i].xid, 0);
            if (!code) continue;
            *out = (struct event){&S->gpu[i], 8, code, S->gpu[i].xid_instance, ~0u};
            return OK;
        }
        if (waited >= ms) return TIMEOUT;
        usleep(10000);
    }
}
