/* A libcuda for tests: contexts and memory that exist in a file for each process, <CUDA_STUB>/<pid>, alone.

   The file holds the bytes that the process has, its context's among them. A size that CUDA_STUB_FREE names (bytes) is
   all that one process can have. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2 };

static const unsigned long long CONTEXT = 512ull << 20;
static unsigned long long held, next_address, chunk;

static int tell(void) {
    char path[520], renamed[512];
    snprintf(renamed, sizeof renamed, "%s/%d", getenv("CUDA_STUB"), getpid());
    snprintf(path, sizeof path, "%s.new", renamed);
    FILE *file = fopen(path, "w");
    if (file == NULL) return 999;
    fprintf(file, "%llu\n", held);
    fclose(file);
    return rename(path, renamed) == 0 ? SUCCESS : 999;
}

int cuInit(unsigned flags) {
    (void)flags;
    return SUCCESS;
}

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    *context = &held;
    held = CONTEXT;
    return tell();
}

int cuCtxSetCurrent(void *context) {
    (void)context;
    return SUCCESS;
}

int cuMemAlloc_v2(unsigned long long *address, size_t size) {
    const char *limit = getenv("CUDA_STUB_FREE");
    if (limit != NULL && held + size > strtoull(limit, NULL, 10)) return OUT_OF_MEMORY;
    chunk = size; /* who uses this allocates chunks of one size */
    *address = ++next_address;
    held += size;
    return tell();
}

int cuMemFree_v2(unsigned long long address) {
    (void)address;
    held -= chunk;
    return tell();
}
