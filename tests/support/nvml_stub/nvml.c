/* A libnvidia-ml for tests: as many functions as Arbiter calls, their answers read from the file that NVML_STUB names.

   The file is read at every call, so that a test can change it. First line: the status of nvmlInit, and 1 where the
   second version of nvmlDeviceGetMemoryInfo exists; then one line for each GPU:
   status uuid name total reserved used (bytes).  A status is an nvmlReturn_t: 0 is success, 15 a lost GPU. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_GPUS = 16, SUCCESS = 0, INVALID_ARGUMENT = 2, FUNCTION_NOT_FOUND = 13, UNKNOWN = 999 };

typedef struct {
    int status;
    char uuid[64], name[64];
    unsigned long long total, reserved, used;
} Gpu;

typedef struct {
    int init_status, has_memory_v2, count;
    Gpu gpus[MAX_GPUS];
} State;

typedef struct {
    unsigned long long total, free, used;
} Memory;

typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} MemoryV2;

static int read_state(State *state) {
    FILE *file = fopen(getenv("NVML_STUB"), "r");
    memset(state, 0, sizeof *state);
    if (file == NULL || fscanf(file, "%d %d", &state->init_status, &state->has_memory_v2) != 2) return UNKNOWN;
    while (state->count < MAX_GPUS) {
        Gpu *gpu = &state->gpus[state->count];
        if (fscanf(file, "%d %63s %63s %llu %llu %llu", &gpu->status, gpu->uuid, gpu->name, &gpu->total,
                   &gpu->reserved, &gpu->used) != 6)
            break;
        state->count++;
    }
    fclose(file);
    return SUCCESS;
}

/* A handle is the GPU's index plus one, since NULL is none. */
static int gpu_of(void *handle, State *state, Gpu **gpu) {
    long index = (long)handle - 1;
    int status = read_state(state);
    if (status != SUCCESS) return status;
    if (index < 0 || index >= state->count) return INVALID_ARGUMENT;
    *gpu = &state->gpus[index];
    return (*gpu)->status;
}

static int copy(const char *from, char *to, unsigned int length) {
    snprintf(to, length, "%s", from);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags) {
    State state;
    int status = read_state(&state);
    (void)flags;
    if (state.init_status < 0) sleep(-state.init_status); /* a driver that hangs */
    return status != SUCCESS ? status : state.init_status < 0 ? SUCCESS : state.init_status;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int status) { return status == 15 ? "GPU is lost" : status == 9 ? "Driver Not Loaded" : "Error"; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    State state;
    int status = read_state(&state);
    *count = (unsigned int)state.count;
    return status;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    State state;
    Gpu *gpu;
    *handle = (void *)(long)(index + 1);
    return gpu_of(*handle, &state, &gpu);
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned int length) {
    State state;
    Gpu *gpu;
    int status = gpu_of(handle, &state, &gpu);
    return status != SUCCESS ? status : copy(gpu->uuid, uuid, length);
}

int nvmlDeviceGetName(void *handle, char *name, unsigned int length) {
    State state;
    Gpu *gpu;
    int status = gpu_of(handle, &state, &gpu);
    return status != SUCCESS ? status : copy(gpu->name, name, length);
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    State state;
    Gpu *gpu;
    int status = gpu_of(handle, &state, &gpu);
    if (status != SUCCESS) return status;
    memory->total = gpu->total;
    memory->used = gpu->used + gpu->reserved; /* this version does not tell them apart */
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *memory) {
    State state;
    Gpu *gpu;
    int status = gpu_of(handle, &state, &gpu);
    if (status != SUCCESS) return status;
    if (!state.has_memory_v2) return FUNCTION_NOT_FOUND;
    if (memory->version != (sizeof *memory | 2u << 24)) return INVALID_ARGUMENT;
    memory->total = gpu->total;
    memory->reserved = gpu->reserved;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->reserved - gpu->used;
    return SUCCESS;
}
