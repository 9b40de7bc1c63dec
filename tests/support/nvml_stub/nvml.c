/* A libnvidia-ml for tests: as many functions as Arbiter calls, their answers read from the script that NVML_STUB names.

   The script is read at every call, so that a test can play the driver while somebody uses it. One statement a line,
   words separated by blanks, sizes in bytes:

     gpu UUID NAME TOTAL RESERVED USED MINOR MIG ACTION   ACTION: what the driver asks for (-1: it cannot tell)
     process UUID KIND PID BYTES                          KIND: compute, graphics or mps (BYTES -1: not available)
     link UUID UUID                                       two GPUs joined by NVLink
     event UUID TYPE DATA                                 delivered once to every event set that existed before it
     error CALL STATUS [UUID]                             an nvmlReturn_t; CALL may be *, without UUID for every GPU
     hang CALL [UUID]                                     the call returns once the script does not say so any more
     limits UUID CGROUP SOFT HARD                         what nvmlDeviceGetMemoryLimits_v1 answers

   nvmlInit fixes which GPUs there are and their order, as the driver does: one that leaves the script is lost, one that
   joins it is seen after the next nvmlInit. Limits that are set are appended to the file <script>.limits. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_GPUS = 16, MAX_PROCESSES = 256, MAX_EVENTS = 64, MAX_RULES = 64, MAX_LINKS = 128, LINE = 1024 };
enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, TIMEOUT = 10,
    GPU_IS_LOST = 15, UNKNOWN = 999
};
enum { TICK_US = 5000, NVLINK_CAPABILITY = 2, P2P_OK = 0, P2P_NOT_SUPPORTED = 5, RECOVERY_ACTION = 230, UNSIGNED_INT = 1 };

typedef unsigned long long Bytes;
typedef struct { char uuid[96], name[64]; Bytes total, reserved, used; unsigned minor, mig; int action; } Gpu;
typedef struct { char uuid[96], kind[16]; unsigned pid; long long bytes; } Process;
typedef struct { char uuid[96]; Bytes type, data; } Event;
typedef struct { char call[64], uuid[96]; int status, hangs; } Rule;
typedef struct { char one[96], other[96]; } Link;
typedef struct { char uuid[96], cgroup[512]; Bytes soft, hard; } Limits;

typedef struct {
    int gpu_count, process_count, event_count, rule_count, link_count, limit_count;
    Gpu gpus[MAX_GPUS];
    Process processes[MAX_PROCESSES];
    Event events[MAX_EVENTS];
    Rule rules[MAX_RULES];
    Link links[MAX_LINKS];
    Limits limits[MAX_RULES];
} Script;

/* What nvmlInit saw. A handle is a pointer into `attached`. */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char attached[MAX_GPUS][96];
static int attached_count, is_initialised;

/* The script as this thread's call found it. */
static __thread Script script;

typedef struct { int seen; Bytes types[MAX_GPUS]; } EventSet;

static void read_line(const char *line) {
    Gpu gpu = {0};
    Process process = {0};
    Event event = {0};
    Rule rule = {0};
    Link link = {0};
    Limits limits = {0};
    if (sscanf(line, "gpu %95s %63s %llu %llu %llu %u %u %d", gpu.uuid, gpu.name, &gpu.total, &gpu.reserved, &gpu.used,
               &gpu.minor, &gpu.mig, &gpu.action) == 8 && script.gpu_count < MAX_GPUS)
        script.gpus[script.gpu_count++] = gpu;
    else if (sscanf(line, "process %95s %15s %u %lld", process.uuid, process.kind, &process.pid, &process.bytes) == 4
             && script.process_count < MAX_PROCESSES)
        script.processes[script.process_count++] = process;
    else if (sscanf(line, "event %95s %llu %llu", event.uuid, &event.type, &event.data) == 3
             && script.event_count < MAX_EVENTS)
        script.events[script.event_count++] = event;
    else if (sscanf(line, "link %95s %95s", link.one, link.other) == 2 && script.link_count < MAX_LINKS)
        script.links[script.link_count++] = link;
    else if (sscanf(line, "limits %95s %511s %llu %llu", limits.uuid, limits.cgroup, &limits.soft, &limits.hard) == 4
             && script.limit_count < MAX_RULES)
        script.limits[script.limit_count++] = limits;
    else if (script.rule_count < MAX_RULES) {
        rule.hangs = sscanf(line, "hang %63s %95s", rule.call, rule.uuid) >= 1;
        if (rule.hangs || sscanf(line, "error %63s %d %95s", rule.call, &rule.status, rule.uuid) >= 2)
            script.rules[script.rule_count++] = rule;
    }
}

static int read_script(void) {
    char line[LINE];
    const char *path = getenv("NVML_STUB");
    FILE *file = path == NULL ? NULL : fopen(path, "r");
    memset(&script, 0, sizeof script);
    if (file == NULL) return UNKNOWN;
    while (fgets(line, sizeof line, file) != NULL) read_line(line);
    fclose(file);
    return SUCCESS;
}

static int is_about(const Rule *rule, const char *call, const char *uuid) {
    return (strcmp(rule->call, "*") == 0 || strcmp(rule->call, call) == 0)
        && (rule->uuid[0] == '\0' || (uuid != NULL && strcmp(rule->uuid, uuid) == 0));
}

/* Waits while the script lets this call hang, then answers what it says of it. */
static int obey(const char *call, const char *uuid) {
    for (;;) {
        int status = read_script(), hangs = 0;
        for (int i = 0; status == SUCCESS && i < script.rule_count; i++) {
            const Rule *rule = &script.rules[i];
            if (!is_about(rule, call, uuid)) continue;
            if (rule->hangs) hangs = 1;
            else status = rule->status;
        }
        if (!hangs) return status;
        usleep(TICK_US);
    }
}

static Gpu *find(const char *uuid) {
    for (int i = 0; i < script.gpu_count; i++)
        if (strcmp(script.gpus[i].uuid, uuid) == 0) return &script.gpus[i];
    return NULL;
}

static int is_handle(const char *handle) {
    return handle >= attached[0] && handle < attached[attached_count];
}

/* Every call about a GPU begins so. */
static int about(const char *call, const char *handle, Gpu **gpu) {
    if (!is_initialised) return UNINITIALIZED;
    if (!is_handle(handle)) return INVALID_ARGUMENT;
    int status = obey(call, handle);
    if (status != SUCCESS) return status;
    *gpu = find(handle);
    return *gpu == NULL ? GPU_IS_LOST : SUCCESS;
}

static int copy(const char *from, char *to, unsigned length) {
    snprintf(to, length, "%s", from);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    int status = obey(__func__, NULL);
    (void)flags;
    if (status == SUCCESS) {
        pthread_mutex_lock(&guard);
        attached_count = script.gpu_count;
        for (int i = 0; i < attached_count; i++) copy(script.gpus[i].uuid, attached[i], sizeof attached[i]);
        is_initialised = 1;
        pthread_mutex_unlock(&guard);
    }
    return status;
}

int nvmlShutdown(void) {
    int status = is_initialised ? obey(__func__, NULL) : UNINITIALIZED;
    is_initialised = 0;
    return status;
}

const char *nvmlErrorString(int status) {
    switch (status) {
        case UNINITIALIZED: return "Uninitialized";
        case NOT_SUPPORTED: return "Not Supported";
        case 9: return "Driver Not Loaded";
        case GPU_IS_LOST: return "GPU is lost";
        case 18: return "Driver/library version mismatch";
        default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    int status = is_initialised ? obey(__func__, NULL) : UNINITIALIZED;
    return status == SUCCESS ? copy("580.95.05", version, length) : status;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 13040;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int status = is_initialised ? obey(__func__, NULL) : UNINITIALIZED;
    *count = (unsigned)attached_count;
    return status;
}

/* Declares the GPU that the function is about and returns early where the call fails. */
#define ABOUT(handle)                              \
    Gpu *gpu = NULL;                               \
    int status = about(__func__, handle, &gpu);    \
    if (status != SUCCESS) return status

int nvmlDeviceGetHandleByIndex_v2(unsigned index, char **handle) {
    if (!is_initialised) return UNINITIALIZED;
    if (index >= (unsigned)attached_count) return INVALID_ARGUMENT;
    *handle = attached[index];
    ABOUT(*handle);
    return SUCCESS;
}

int nvmlDeviceGetUUID(char *handle, char *uuid, unsigned length) {
    ABOUT(handle);
    return copy(gpu->uuid, uuid, length);
}

int nvmlDeviceGetName(char *handle, char *name, unsigned length) {
    ABOUT(handle);
    return copy(gpu->name, name, length);
}

int nvmlDeviceGetCudaComputeCapability(char *handle, int *major, int *minor) {
    ABOUT(handle);
    *major = 9;
    *minor = 0;
    return SUCCESS;
}

int nvmlDeviceGetMinorNumber(char *handle, unsigned *minor) {
    ABOUT(handle);
    *minor = gpu->minor;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(char *handle, unsigned *current, unsigned *pending) {
    ABOUT(handle);
    *current = *pending = gpu->mig;
    return SUCCESS;
}

typedef struct { Bytes total, free, used; } Memory;

int nvmlDeviceGetMemoryInfo(char *handle, Memory *memory) {
    ABOUT(handle);
    memory->total = gpu->total;
    memory->used = gpu->used + gpu->reserved; /* this version does not tell them apart */
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

typedef struct { unsigned version; Bytes total, reserved, free, used; } MemoryV2;

int nvmlDeviceGetMemoryInfo_v2(char *handle, MemoryV2 *memory) {
    ABOUT(handle);
    if (memory->version != (sizeof *memory | 2u << 24)) return INVALID_ARGUMENT;
    memory->total = gpu->total;
    memory->reserved = gpu->reserved;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->reserved - gpu->used;
    return SUCCESS;
}

typedef struct { unsigned pid; Bytes used; unsigned gpu_instance, compute_instance; } ProcessInfo;

static int list_processes(const char *uuid, const char *kind, unsigned *room, ProcessInfo *infos) {
    unsigned count = 0;
    for (int i = 0; i < script.process_count; i++) {
        const Process *process = &script.processes[i];
        if (strcmp(process->uuid, uuid) != 0 || strcmp(process->kind, kind) != 0) continue;
        if (infos != NULL && count < *room)
            infos[count] = (ProcessInfo){process->pid, (Bytes)process->bytes, ~0u, ~0u};
        count++;
    }
    int fits = count <= *room;
    *room = count;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

int nvmlDeviceGetComputeRunningProcesses_v3(char *handle, unsigned *count, ProcessInfo *infos) {
    ABOUT(handle);
    return list_processes(gpu->uuid, "compute", count, infos);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(char *handle, unsigned *count, ProcessInfo *infos) {
    ABOUT(handle);
    return list_processes(gpu->uuid, "graphics", count, infos);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(char *handle, unsigned *count, ProcessInfo *infos) {
    ABOUT(handle);
    return list_processes(gpu->uuid, "mps", count, infos);
}

int nvmlDeviceGetP2PStatus(char *handle, char *other, int capability, int *answer) {
    ABOUT(handle);
    *answer = P2P_NOT_SUPPORTED;
    for (int i = 0; i < script.link_count && capability == NVLINK_CAPABILITY; i++) {
        const Link *link = &script.links[i];
        if ((strcmp(link->one, handle) == 0 && strcmp(link->other, other) == 0)
            || (strcmp(link->one, other) == 0 && strcmp(link->other, handle) == 0))
            *answer = P2P_OK;
    }
    return SUCCESS;
}

typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    int value_type, status;
    union { unsigned number; Bytes bytes; } value;
} FieldValue;

int nvmlDeviceGetFieldValues(char *handle, int count, FieldValue *values) {
    ABOUT(handle);
    for (int i = 0; i < count; i++) {
        int is_known = values[i].field == RECOVERY_ACTION && gpu->action >= 0;
        values[i].status = is_known ? SUCCESS : NOT_SUPPORTED;
        values[i].value_type = UNSIGNED_INT;
        values[i].value.number = is_known ? (unsigned)gpu->action : 0;
    }
    return SUCCESS;
}

int nvmlDeviceGetSupportedEventTypes(char *handle, Bytes *types) {
    ABOUT(handle);
    *types = 0x1 | 0x2 | 0x4 | 0x8 | 0x10;
    return SUCCESS;
}

int nvmlEventSetCreate(EventSet **set) {
    int status = is_initialised ? obey(__func__, NULL) : UNINITIALIZED;
    if (status != SUCCESS) return status;
    *set = calloc(1, sizeof **set);
    (*set)->seen = script.event_count;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(char *handle, Bytes types, EventSet *set) {
    ABOUT(handle);
    set->types[(handle - attached[0]) / (long)sizeof attached[0]] = types;
    return SUCCESS;
}

typedef struct { char *device; Bytes type, data; unsigned gpu_instance, compute_instance; } EventData;

/* The next event of the script that the set is registered for. */
static int next_event(EventSet *set, EventData *data) {
    while (set->seen < script.event_count) {
        const Event *event = &script.events[set->seen++];
        for (int i = 0; i < attached_count; i++)
            if (strcmp(attached[i], event->uuid) == 0 && (set->types[i] & event->type)) {
                *data = (EventData){attached[i], event->type, event->data, ~0u, ~0u};
                return SUCCESS;
            }
    }
    return TIMEOUT;
}

int nvmlEventSetWait_v2(EventSet *set, EventData *data, unsigned patience_ms) {
    for (unsigned waited = 0;; waited += TICK_US / 1000) {
        int status = is_initialised ? obey(__func__, NULL) : UNINITIALIZED;
        if (status != SUCCESS) return status;
        status = next_event(set, data);
        if (status == SUCCESS || waited >= patience_ms) return status;
        usleep(TICK_US);
    }
}

int nvmlEventSetFree(EventSet *set) {
    free(set);
    return SUCCESS;
}

typedef struct { const char *cgroup; Bytes soft, hard; } LimitsToSet;
typedef struct { const char *cgroup; Bytes soft, hard, used; } LimitsInForce;

int nvmlDeviceSetMemoryLimits_v1(char *handle, LimitsToSet *limits) {
    char path[LINE];
    ABOUT(handle);
    snprintf(path, sizeof path, "%s.limits", getenv("NVML_STUB"));
    FILE *file = fopen(path, "a");
    if (file == NULL) return UNKNOWN;
    fprintf(file, "%s %s %llu %llu\n", gpu->uuid, limits->cgroup, limits->soft, limits->hard);
    fclose(file);
    return SUCCESS;
}

int nvmlDeviceGetMemoryLimits_v1(char *handle, LimitsInForce *limits) {
    ABOUT(handle);
    limits->soft = limits->used = 0;
    limits->hard = ~0ull;
    for (int i = 0; i < script.limit_count; i++)
        if (strcmp(script.limits[i].uuid, handle) == 0 && strcmp(script.limits[i].cgroup, limits->cgroup) == 0) {
            limits->soft = script.limits[i].soft;
            limits->hard = script.limits[i].hard;
        }
    return SUCCESS;
}
