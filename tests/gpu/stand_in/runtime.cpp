// A CUDA runtime whose "device" memory is host memory: torch believes in STAND_IN_GPUS GPUs.
//
// It is preloaded in front of libcudart. Memory calls work, calls that ask get answers, and kernels
// do nothing: operators are carried out by device.py. Sizes are those of a data-centre GPU of
// compute capability 9.0; STAND_IN_GIB says how much memory it has.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

// The header gives some calls a version suffix by macro; torch asks for the plain names.
#undef cudaGetDeviceProperties
#undef cudaEventElapsedTime
#undef cudaStreamGetCaptureInfo

namespace {

constexpr size_t kAlignment = 512;  // as cudaMalloc's
thread_local int current = 0;
std::mutex guard;
std::map<void*, size_t> blocks;
char some_event[8], some_stream[8];

int number_from(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text ? atoi(text) : otherwise;
}
int devices() { return number_from("STAND_IN_GPUS", 1); }
size_t memory() { return static_cast<size_t>(number_from("STAND_IN_GIB", 80)) << 30; }
void* allocate(size_t size) {
  return aligned_alloc(kAlignment, (size + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

extern "C" {

// Devices.
cudaError_t cudaGetDeviceCount(int* count) { *count = devices(); return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { *device = current; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  if (device >= devices()) return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { *version = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { *version = 13000; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "stand-in GPU");
  found->totalGlobalMem = memory();
  found->major = 9;
  found->multiProcessorCount = 132;
  found->warpSize = 32;
  found->maxThreadsPerBlock = 1024;
  found->maxThreadsPerMultiProcessor = 2048;
  found->sharedMemPerBlock = 49152;
  found->sharedMemPerBlockOptin = 232448;
  found->sharedMemPerMultiprocessor = 233472;
  found->regsPerBlock = found->regsPerMultiprocessor = 65536;
  found->l2CacheSize = 50 << 20;
  found->maxGridSize[0] = 2147483647;
  found->maxGridSize[1] = found->maxGridSize[2] = 65535;
  found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
  found->maxThreadsDim[2] = 64;
  found->managedMemory = found->unifiedAddressing = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  if (which == cudaDevAttrMultiProcessorCount) *value = 132;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int) {
  snprintf(text, size, "0000:00:00.0");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { *can = 1; return cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

// Errors: there are none.
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "an error of the stand-in"; }
const char* cudaGetErrorName(cudaError_t) { return "standInError"; }

// Memory: on the host.
cudaError_t cudaMalloc(void** place, size_t size) {
  *place = allocate(size);
  std::lock_guard<std::mutex> locked(guard);
  blocks[*place] = size;
  return cudaSuccess;
}
cudaError_t cudaFree(void* place) {
  if (!place) return cudaSuccess;
  std::lock_guard<std::mutex> locked(guard);
  blocks.erase(place);
  free(place);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** place, size_t size, unsigned) {
  *place = allocate(size);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* place) { free(place); return cudaSuccess; }
cudaError_t cudaHostRegister(void*, size_t, unsigned) { return cudaSuccess; }
cudaError_t cudaHostUnregister(void*) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  *free_bytes = *total = memory();
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  memcpy(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  memcpy(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* place, int value, size_t size) {
  memset(place, value, size);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* place, int value, size_t size, cudaStream_t) {
  memset(place, value, size);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* place) {
  memset(found, 0, sizeof *found);
  found->type = cudaMemoryTypeUnregistered;
  found->devicePointer = const_cast<void*>(place);
  std::lock_guard<std::mutex> locked(guard);
  auto next = blocks.upper_bound(const_cast<void*>(place));
  if (next != blocks.begin()) {
    --next;
    const char* end = static_cast<char*>(next->first) + next->second;
    if (static_cast<const char*>(place) < end) found->type = cudaMemoryTypeDevice;
  }
  return cudaSuccess;
}

// Events and streams: everything is done at once.
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(some_event);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* time, cudaEvent_t, cudaEvent_t) {
  *time = 1;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = reinterpret_cast<cudaStream_t>(some_stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t*,
                                     const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  *status = cudaStreamCaptureStatusNone;
  if (id) *id = 0;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }

// Kernels: none runs.
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) {
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* count, const void*, int,
                                                                   size_t, unsigned) {
  *count = 4;
  return cudaSuccess;
}

}  // extern "C"
