// SPDX-License-Identifier: MIT
// The CUDA runtime's functions on host memory. What a stream is given waits in a queue and runs when the host waits for
// it, or by chance before; a capturing stream's is kept instead, to be run by every launch of its graph.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "engine.hpp"

namespace emulator {
namespace {

using Work = std::function<void()>;

// What a capture has recorded. Streams join it by waiting for an event of it.
struct Capture {
  cudaStream_t origin;
  std::vector<Work> work;
  std::set<cudaStream_t> joined;    // besides the origin
  std::set<cudaStream_t> unmerged;  // whose last work the origin does not wait for
  bool broken = false;
};

// One recording of an event.
struct Mark {
  cudaStream_t stream = nullptr;
  bool done = false;
  std::chrono::steady_clock::time_point time;
  std::shared_ptr<Capture> capture;
};

struct Item {
  Work work;
  std::shared_ptr<Mark> wait;  // runs when this is done; then there is no work
};

}  // namespace
}  // namespace emulator

struct CUstream_st {
  int device = 0;
  std::deque<emulator::Item> queue;
  std::shared_ptr<emulator::Capture> capture;
  cudaError_t error = cudaSuccess;
};
struct CUevent_st {
  int device = 0;
  std::shared_ptr<emulator::Mark> mark;
  bool timing = true;
};
struct CUmemPoolHandle_st {
  unsigned long long threshold = 0;
};
struct CUgraph_st {
  std::vector<emulator::Work> work;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<emulator::Work>> work;
};

namespace emulator {
namespace {

struct Runtime {
  std::recursive_mutex mutex;
  cudaDeviceProp properties{};
  Random random;
  std::map<std::uintptr_t, std::size_t> allocations;  // device memory: begin, bytes
  std::map<std::uintptr_t, std::size_t> pinned;
  std::size_t allocated = 0;
  std::set<cudaStream_t> streams;
  std::map<const void*, std::size_t> dynamic_limits;  // of kernels that were given leave
  CUstream_st default_stream;
  cudaError_t last = cudaSuccess;
  std::string report;  // of the last kernel that went wrong
  std::uint64_t launches = 0;

  Runtime() {
    constexpr char name[] = "CUDA emulator";
    std::memcpy(properties.name, name, sizeof(name));
    properties.totalGlobalMem = std::size_t{4} << 30U;
    properties.sharedMemPerBlock = std::size_t{48} << 10U;
    properties.regsPerBlock = 65536;
    properties.warpSize = 32;
    properties.maxThreadsPerBlock = 1024;
    properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = 1024;
    properties.maxThreadsDim[2] = 64;
    properties.maxGridSize[0] = 0x7FFFFFFF;
    properties.maxGridSize[1] = properties.maxGridSize[2] = 65535;
    properties.major = 9;
    properties.minor = 0;
    properties.multiProcessorCount = 4;
    properties.memoryBusWidth = 64;
    properties.l2CacheSize = 1 << 20;
    properties.maxThreadsPerMultiProcessor = 2048;
    properties.sharedMemPerMultiprocessor = std::size_t{228} << 10U;
    properties.regsPerMultiprocessor = 65536;
    properties.sharedMemPerBlockOptin = std::size_t{227} << 10U;
    const char* const seed = std::getenv("STORYLM_EMULATOR_SEED");
    random.seed(seed == nullptr ? 0 : std::strtoull(seed, nullptr, 10));
  }
};

Runtime& runtime() {
  static auto* const made = new Runtime;  // for ever: static objects of tests may outlive everything else
  return *made;
}

using Lock = std::lock_guard<std::recursive_mutex>;

constexpr int device_count = 2;
thread_local int current_device = 0;

cudaError_t failed(cudaError_t error) {
  if (error != cudaSuccess) runtime().last = error;
  return error;
}

CUstream_st& stream_of(cudaStream_t stream) { return stream == nullptr ? runtime().default_stream : *stream; }

void run_next(CUstream_st& stream);

// Runs what `stream` has up to where `mark` is done.
void finish(const std::shared_ptr<Mark>& mark) {
  CUstream_st& stream = stream_of(mark->stream);
  while (!mark->done && !stream.queue.empty()) run_next(stream);
}

void run_next(CUstream_st& stream) {
  const Item item = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (item.wait != nullptr) {
    finish(item.wait);
    return;
  }
  try {
    item.work();
  } catch (const std::exception& error) {
    runtime().report = error.what();
    stream.error = cudaErrorLaunchFailure;
  }
}

// The first error of what ran, once.
cudaError_t drain(CUstream_st& stream) {
  while (!stream.queue.empty()) run_next(stream);
  return failed(std::exchange(stream.error, cudaSuccess));
}

cudaError_t drain_all() {
  cudaError_t error = drain(runtime().default_stream);
  for (const cudaStream_t stream : runtime().streams)
    if (const cudaError_t own = drain(*stream); error == cudaSuccess) error = own;
  return error;
}

// All that waits runs; what goes wrong in it is told to whoever waits for its stream.
void run_all() {
  const auto run = [](CUstream_st& stream) {
    while (!stream.queue.empty()) run_next(stream);
  };
  run(runtime().default_stream);
  for (const cudaStream_t stream : runtime().streams) run(*stream);
}

// Some of what waits runs now, as the seed has it.
cudaError_t run_some(CUstream_st& stream) {
  const std::uint32_t draw = runtime().random();
  if ((draw & 1U) != 0) return drain(stream);
  for (std::uint32_t count = (draw >> 1U) % 4; count > 0 && !stream.queue.empty(); --count) run_next(stream);
  return failed(std::exchange(stream.error, cudaSuccess));
}

bool within(const std::map<std::uintptr_t, std::size_t>& blocks, const void* p, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(p);
  auto found = blocks.upper_bound(begin);
  if (found == blocks.begin()) return false;
  --found;
  return begin + bytes <= found->first + found->second;
}

cudaError_t allocate(void** memory, std::size_t bytes) {
  Runtime& r = runtime();
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > r.properties.totalGlobalMem - std::min(r.allocated, r.properties.totalGlobalMem))
    return failed(cudaErrorMemoryAllocation);
  if (::posix_memalign(memory, 256, bytes) != 0) return failed(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xFF, bytes);
  r.allocations.emplace(reinterpret_cast<std::uintptr_t>(*memory), bytes);
  r.allocated += bytes;
  if (watcher != nullptr) watcher->device_memory_changes(*memory, bytes);
  return cudaSuccess;
}

cudaError_t release(void* memory) {
  Runtime& r = runtime();
  const auto found = r.allocations.find(reinterpret_cast<std::uintptr_t>(memory));
  if (found == r.allocations.end()) return failed(cudaErrorInvalidValue);
  if (watcher != nullptr) watcher->device_memory_changes(memory, found->second);
  r.allocated -= found->second;
  r.allocations.erase(found);
  std::free(memory);
  return cudaSuccess;
}

bool copy_fits(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const auto& device = runtime().allocations;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) return true;
  return within(device, to, bytes) == to_device && within(device, from, bytes) == from_device;
}

}  // namespace

Random& host_random() { return runtime().random; }

void set_seed(unsigned seed) {
  const Lock lock(runtime().mutex);
  runtime().random.seed(seed);
}
cudaDeviceProp& properties() { return runtime().properties; }

bool has_shared_limit(const void* kernel) { return runtime().dynamic_limits.contains(kernel); }
std::size_t allocated_bytes() {
  const Lock lock(runtime().mutex);
  return runtime().allocated;
}
std::uint64_t launches() { return runtime().launches; }

cudaError_t submit(cudaStream_t to, std::function<void()> work) {
  const Lock lock(runtime().mutex);
  CUstream_st& stream = stream_of(to);
  if (stream.capture != nullptr) {
    stream.capture->work.push_back(std::move(work));
    if (to != stream.capture->origin) stream.capture->unmerged.insert(to);
    return cudaSuccess;
  }
  stream.queue.push_back({std::move(work), nullptr});
  return run_some(stream);
}

bool is_device_memory(const void* p, std::size_t bytes) {
  const Lock lock(runtime().mutex);
  return within(runtime().allocations, p, bytes);
}

DeviceShare device_share(std::uintptr_t begin, std::size_t bytes) {
  const auto& blocks = runtime().allocations;
  if (within(blocks, reinterpret_cast<const void*>(begin), bytes)) return DeviceShare::all;
  const auto next = blocks.lower_bound(begin + bytes);  // the first that begins behind
  if (next == blocks.begin()) return DeviceShare::none;
  const auto last = std::prev(next);
  return last->first + last->second > begin ? DeviceShare::some : DeviceShare::none;
}

cudaError_t launch(const void* kernel, dim3 grid, int threads, std::size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> thread) {
  if (stream != nullptr && stream->device != current_device) return failed(cudaErrorInvalidResourceHandle);
  const cudaDeviceProp& device = properties();
  const auto limit = [&](int i) { return static_cast<unsigned>(device.maxGridSize[i]); };
  if (threads < 1 || threads > device.maxThreadsPerBlock || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > limit(0) || grid.y > limit(1) || grid.z > limit(2))
    return failed(cudaErrorInvalidConfiguration);
  const auto given = runtime().dynamic_limits.find(kernel);
  const std::size_t most = given != runtime().dynamic_limits.end() ? given->second : device.sharedMemPerBlock;
  if (shared_bytes > most) return failed(cudaErrorInvalidValue);
  return submit(stream, [kernel, grid, threads, shared_bytes, thread = std::move(thread)] {
    ++runtime().launches;
    run_grid(kernel, grid, threads, shared_bytes, thread);
  });
}

}  // namespace emulator

using emulator::Lock;
using emulator::runtime;

namespace {

struct Named {
  cudaError_t code;
  const char* name;
  const char* text;
};
constexpr Named errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const Named& named(cudaError_t error) {
  for (const Named& one : errors)
    if (one.code == error) return one;
  return errors[std::size(errors) - 1];
}

// What may not be called between cudaStreamBeginCapture and cudaStreamEndCapture ruins the capture.
bool refuses_capture(CUstream_st& stream) {
  if (stream.capture == nullptr) return false;
  stream.capture->broken = true;
  return true;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) { return named(error).name; }
const char* cudaGetErrorString(cudaError_t error) {
  const Lock lock(runtime().mutex);
  if (error != cudaErrorLaunchFailure || runtime().report.empty()) return named(error).text;
  return runtime().report.c_str();
}
cudaError_t cudaGetLastError() {
  const Lock lock(runtime().mutex);
  return std::exchange(runtime().last, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() { return runtime().last; }
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = emulator::device_count;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = emulator::current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulator::device_count) return emulator::failed(cudaErrorInvalidDevice);
  emulator::current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= emulator::device_count) return emulator::failed(cudaErrorInvalidDevice);
  *properties = runtime().properties;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= emulator::device_count) return emulator::failed(cudaErrorInvalidDevice);
  const cudaDeviceProp& p = runtime().properties;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      return cudaSuccess;
  }
  return emulator::failed(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(runtime().mutex);
  return emulator::drain_all();
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (kernel == nullptr) return emulator::failed(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize &&
      (value < 0 || static_cast<std::size_t>(value) > runtime().properties.sharedMemPerBlockOptin))
    return emulator::failed(cudaErrorInvalidValue);
  const Lock lock(runtime().mutex);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize)
    runtime().dynamic_limits[kernel] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

// Memory.
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Lock lock(runtime().mutex);
  *total = runtime().properties.totalGlobalMem;
  *free = *total - std::min(*total, runtime().allocated);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  const Lock lock(runtime().mutex);
  return emulator::allocate(memory, bytes);
}
cudaError_t cudaFree(void* memory) {
  const Lock lock(runtime().mutex);
  if (const cudaError_t error = emulator::drain_all(); error != cudaSuccess) return error;
  return memory == nullptr ? cudaSuccess : emulator::release(memory);
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  const Lock lock(runtime().mutex);
  if (::posix_memalign(memory, 256, std::max<std::size_t>(bytes, 1)) != 0)
    return emulator::failed(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xFF, bytes);
  runtime().pinned.emplace(reinterpret_cast<std::uintptr_t>(*memory), bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  const Lock lock(runtime().mutex);
  emulator::run_all();  // as the runtime does: copies may be under way
  if (memory != nullptr && runtime().pinned.erase(reinterpret_cast<std::uintptr_t>(memory)) == 0)
    return emulator::failed(cudaErrorInvalidValue);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  if (properties->allocType != cudaMemAllocationTypePinned || properties->location.type != cudaMemLocationTypeDevice)
    return emulator::failed(cudaErrorInvalidValue);
  if (properties->location.id < 0 || properties->location.id >= emulator::device_count)
    return emulator::failed(cudaErrorInvalidDevice);
  *pool = new CUmemPoolHandle_st;
  return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  delete pool;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  if (attribute == cudaMemPoolAttrReleaseThreshold) pool->threshold = *static_cast<unsigned long long*>(value);
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  const Lock lock(runtime().mutex);
  switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold:
      *static_cast<unsigned long long*>(value) = pool->threshold;
      break;
    case cudaMemPoolAttrReservedMemCurrent:
    case cudaMemPoolAttrReservedMemHigh:
    case cudaMemPoolAttrUsedMemCurrent:
    case cudaMemPoolAttrUsedMemHigh:
      *static_cast<unsigned long long*>(value) = runtime().allocated;
      break;
    default:
      *static_cast<int*>(value) = 1;
  }
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t /*pool*/, std::size_t /*bytes*/) { return cudaSuccess; }
cudaError_t cudaMallocFromPoolAsync(void** memory, std::size_t bytes, cudaMemPool_t pool, cudaStream_t to) {
  const Lock lock(runtime().mutex);
  *memory = nullptr;
  if (pool == nullptr) return emulator::failed(cudaErrorInvalidValue);
  // The runtime would make it the graph's own memory, gone before the next launch: nothing here means that.
  if (refuses_capture(emulator::stream_of(to))) return emulator::failed(cudaErrorStreamCaptureUnsupported);
  return emulator::allocate(memory, bytes);
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t to) {
  const Lock lock(runtime().mutex);
  if (memory == nullptr) return cudaSuccess;
  if (refuses_capture(emulator::stream_of(to))) return emulator::failed(cudaErrorStreamCaptureUnsupported);
  if (runtime().allocations.count(reinterpret_cast<std::uintptr_t>(memory)) == 0)
    return emulator::failed(cudaErrorInvalidValue);
  return emulator::submit(to, [memory] { static_cast<void>(emulator::release(memory)); });
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const Lock lock(runtime().mutex);
  if (const cudaError_t error = emulator::drain_all(); error != cudaSuccess) return error;
  if (!emulator::copy_fits(to, from, bytes, kind)) return emulator::failed(cudaErrorInvalidValue);
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Lock lock(runtime().mutex);
  if (!emulator::copy_fits(to, from, bytes, kind)) return emulator::failed(cudaErrorInvalidValue);
  return emulator::submit(stream, [=] {
    if (!emulator::copy_fits(to, from, bytes, kind))
      throw emulator::KernelError("a copy of memory that is given back by now");
    std::memmove(to, from, bytes);
  });
}
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  const Lock lock(runtime().mutex);
  if (const cudaError_t error = emulator::drain_all(); error != cudaSuccess) return error;
  if (!emulator::is_device_memory(memory, bytes)) return emulator::failed(cudaErrorInvalidValue);
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  const Lock lock(runtime().mutex);
  if (!emulator::is_device_memory(memory, bytes)) return emulator::failed(cudaErrorInvalidValue);
  return emulator::submit(stream, [=] {
    if (!emulator::is_device_memory(memory, bytes))
      throw emulator::KernelError("a fill of memory that is given back by now");
    std::memset(memory, value, bytes);
  });
}

// Streams and events.
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned /*flags*/) {
  const Lock lock(runtime().mutex);
  *stream = new CUstream_st;
  (*stream)->device = emulator::current_device;
  runtime().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(runtime().mutex);
  if (runtime().streams.count(stream) == 0) return emulator::failed(cudaErrorInvalidResourceHandle);
  const cudaError_t error = emulator::drain(*stream);
  runtime().streams.erase(stream);
  delete stream;
  return error;
}
cudaError_t cudaStreamSynchronize(cudaStream_t to) {
  const Lock lock(runtime().mutex);
  CUstream_st& stream = emulator::stream_of(to);
  if (refuses_capture(stream)) return emulator::failed(cudaErrorStreamCaptureUnsupported);
  return emulator::drain(stream);
}
cudaError_t cudaStreamQuery(cudaStream_t to) {
  const Lock lock(runtime().mutex);
  CUstream_st& stream = emulator::stream_of(to);
  if (refuses_capture(stream)) return emulator::failed(cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = emulator::run_some(stream); error != cudaSuccess) return error;
  return stream.queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t to, cudaEvent_t event, unsigned /*flags*/) {
  const Lock lock(runtime().mutex);
  CUstream_st& stream = emulator::stream_of(to);
  if (event->mark == nullptr) return cudaSuccess;  // never recorded: nothing to wait for
  const auto& capture = event->mark->capture;
  if (capture == nullptr) {
    if (refuses_capture(stream)) return emulator::failed(cudaErrorStreamCaptureIsolation);
    stream.queue.push_back({nullptr, event->mark});
    return cudaSuccess;
  }
  if (stream.capture == nullptr) {
    if (emulator::stream_of(capture->origin).capture != capture) return emulator::failed(cudaErrorCapturedEvent);
    stream.capture = capture;
    capture->joined.insert(to);
    capture->unmerged.insert(to);
  } else if (stream.capture != capture) {
    return emulator::failed(cudaErrorStreamCaptureMerge);
  }
  capture->unmerged.erase(event->mark->stream);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->device = emulator::current_device;
  (*event)->timing = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t to) {
  const Lock lock(runtime().mutex);
  CUstream_st& stream = emulator::stream_of(to);
  if (to != nullptr && event->device != stream.device) return emulator::failed(cudaErrorInvalidResourceHandle);
  const auto mark = std::make_shared<emulator::Mark>();
  mark->stream = to;
  mark->capture = stream.capture;
  event->mark = mark;
  if (stream.capture != nullptr) return cudaSuccess;
  return emulator::submit(to, [mark] {
    mark->time = std::chrono::steady_clock::now();
    mark->done = true;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(runtime().mutex);
  if (event->mark == nullptr) return cudaSuccess;
  if (event->mark->capture != nullptr) return emulator::failed(cudaErrorCapturedEvent);
  emulator::finish(event->mark);
  return emulator::failed(std::exchange(emulator::stream_of(event->mark->stream).error, cudaSuccess));
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(runtime().mutex);
  if (event->mark == nullptr) return cudaSuccess;
  if (event->mark->capture != nullptr) return emulator::failed(cudaErrorCapturedEvent);
  if (event->mark->done) return cudaSuccess;
  const cudaError_t error = emulator::run_some(emulator::stream_of(event->mark->stream));
  if (error != cudaSuccess) return error;
  return event->mark->done ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Lock lock(runtime().mutex);
  if (!start->timing || !end->timing || start->mark == nullptr || end->mark == nullptr)
    return emulator::failed(cudaErrorInvalidResourceHandle);
  if (!start->mark->done || !end->mark->done) return emulator::failed(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->mark->time - start->mark->time).count();
  return cudaSuccess;
}

// Graphs.
cudaError_t cudaStreamBeginCapture(cudaStream_t to, cudaStreamCaptureMode /*mode*/) {
  const Lock lock(runtime().mutex);
  if (to == nullptr) return emulator::failed(cudaErrorStreamCaptureUnsupported);
  if (to->capture != nullptr) return emulator::failed(cudaErrorInvalidValue);
  to->capture = std::make_shared<emulator::Capture>();
  to->capture->origin = to;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t to, cudaGraph_t* graph) {
  const Lock lock(runtime().mutex);
  *graph = nullptr;
  if (to == nullptr || to->capture == nullptr) return emulator::failed(cudaErrorInvalidValue);
  const auto capture = to->capture;
  if (capture->origin != to) return emulator::failed(cudaErrorStreamCaptureUnmatched);
  to->capture = nullptr;
  for (const cudaStream_t stream : capture->joined) emulator::stream_of(stream).capture = nullptr;
  if (capture->broken) return emulator::failed(cudaErrorStreamCaptureInvalidated);
  if (!capture->unmerged.empty()) return emulator::failed(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->work)};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t to, cudaStreamCaptureStatus* status) {
  const Lock lock(runtime().mutex);
  const auto& capture = emulator::stream_of(to).capture;
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->broken  ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* execution, cudaGraph_t graph, unsigned long long /*flags*/) {
  *execution = new CUgraphExec_st{std::make_shared<const std::vector<emulator::Work>>(graph->work)};
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t execution) {
  delete execution;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t execution, cudaStream_t stream) {
  return emulator::submit(stream, [work = execution->work] {
    for (const auto& one : *work) one();
  });
}
