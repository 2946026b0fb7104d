// SPDX-License-Identifier: MIT
/// @file
/// @brief The device that is an NVIDIA GPU: a stream, a pool of memory, pinned staging, recordings.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <typeindex>
#include <utility>
#include <vector>

#include <storylm/core/cuda_resources.hpp>
#include <storylm/core/device.hpp>
#include <storylm/core/scratch.hpp>

namespace storylm {

/// What a Cuda is made with.
struct CudaOptions {
  int device = 0;            ///< which GPU, as the CUDA runtime counts them
  bool tf32 = false;         ///< products of floats on tensor cores, with 10-bit mantissas; else true fp32
  bool tune_matmul = false;  ///< matmul algorithms by timing; else cuBLASLt's first proposal
};

/// What kernels' launches depend on.
struct CudaProperties {
  std::string name;              ///< of the GPU
  int capability = 0;            ///< 10 major + minor: 80, 86, 89, 90, ...
  int multiprocessors = 0;       ///< their number
  std::size_t shared_bytes = 0;  ///< the most dynamic shared memory of a block
  std::size_t l2_bytes = 0;      ///< of the level 2 cache
};

/// One stream of one GPU, and memory from a pool of its own. Copies of a Cuda share one context; work given to them
/// runs in order and behind the host's back: only synchronize(), copies to the host and Readback::wait() wait for it. A
/// context serves one host thread at a time, and makes its GPU that thread's current one whenever it is given work.
class Cuda {
 public:
  /// What programs call it.
  static constexpr std::string_view name = "cuda";
  /// The host cannot read its memory.
  static constexpr bool host_memory = false;

  /// Device memory in the order of a stream.
  struct Memory {
    cudaStream_t stream{};  ///< allocations and releases are part of its order
    cudaMemPool_t pool{};   ///< where it comes from

    /// On 256-byte boundaries. @throws CudaError, also inside a recording: the memory would be the graph's
    [[nodiscard]] void* allocate(std::size_t bytes) const {
      void* p{};
      if (bytes == 0) return p;
      expects<CudaError>(!cuda::is_capturing(stream), "cuda", "an allocation cannot be recorded: ", bytes, " bytes");
      STORYLM_CUDA_CHECK(cudaMallocFromPoolAsync(&p, bytes, pool, stream));
      return p;
    }
    /// Of what allocate() gave; may be null.
    void deallocate(void* p) const noexcept {
      if (p != nullptr) static_cast<void>(cudaFreeAsync(p, stream));
    }
  };
  /// Temporary memory, given back when it ends.
  using Scratch = ScratchStack<Memory>::Frame;

  /// @throws CudaError when there is no such GPU, or no driver
  explicit Cuda(CudaOptions options = {}) : Cuda(options, nullptr) {}

  /// Another stream of the same GPU and pool, for copies beside the work of this one.
  [[nodiscard]] Cuda sibling() const { return Cuda(context_->options, context_->pool); }
  /// What `other` was given so far comes before what this is given next. @throws CudaError
  void wait_for(const Cuda& other) const {
    STORYLM_CUDA_CHECK(cudaEventRecord(other.context_->fence.get(), other.stream()));
    STORYLM_CUDA_CHECK(cudaStreamWaitEvent(stream(), other.context_->fence.get(), 0));
  }

  /// A point in the order of a device's work.
  class Mark {
    friend class Cuda;
    cuda::Event event_;
  };
  /// `mark` becomes the end of what this was given so far. @throws CudaError
  void mark(Mark& mark) const {
    cudaStream_t const order = stream();
    if (mark.event_ == nullptr) mark.event_ = cuda::make_event();
    STORYLM_CUDA_CHECK(cudaEventRecord(mark.event_.get(), order));
  }
  /// What comes before `mark`, on any stream, comes before what this is given next. A mark never set is no wait.
  /// @throws CudaError
  void wait_for(const Mark& mark) const {
    if (mark.event_ != nullptr) STORYLM_CUDA_CHECK(cudaStreamWaitEvent(stream(), mark.event_.get(), 0));
  }

  /// Memory as it comes, on 256-byte boundaries. @throws CudaError
  [[nodiscard]] void* allocate(std::size_t bytes) const {
    ++context_->allocations;
    return context_->memory.allocate(bytes);
  }
  /// Gives back what allocate() gave; may be null.
  void deallocate(void* p) const noexcept { context_->memory.deallocate(p); }
  /// All bytes become zero. @throws CudaError
  void fill_zero(void* p, std::size_t bytes) const {
    if (bytes != 0) STORYLM_CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, stream()));
  }
  /// From the host to the device, in the order of the work given to it; `from` may be reused at once.
  /// @throws CudaError, also inside a recording: it would read the host's memory of that moment for ever
  void copy_from_host(void* to, const void* from, std::size_t bytes) const;
  /// From the device to the host; done after synchronize(). @throws CudaError
  void copy_to_host(void* to, const void* from, std::size_t bytes) const {
    if (bytes != 0) STORYLM_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()));
  }
  /// Within the device. @throws CudaError
  void copy(void* to, const void* from, std::size_t bytes) const {
    if (bytes != 0) STORYLM_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
  }
  /// Waits until all work given to the device is done. @throws CudaError of whatever went wrong in it
  void synchronize() const { STORYLM_CUDA_CHECK(cudaStreamSynchronize(stream())); }

  /// A frame of the context's scratch stack; memory taken from it lives as long as the frame.
  [[nodiscard]] Scratch scratch() const { return Scratch(context_->scratch); }

  /// A few bytes on their way to the host while the device goes on.
  class Readback;
  /// Work that is given to the device again and again.
  class Recording;

  /// The order its work runs in. Makes its GPU the calling thread's current one: launches and events need that, and
  /// another Cuda may have been made since. @throws CudaError
  [[nodiscard]] cudaStream_t stream() const {
    STORYLM_CUDA_CHECK(cudaSetDevice(context_->options.device));
    return context_->memory.stream;
  }
  /// As given.
  [[nodiscard]] const CudaOptions& options() const noexcept { return context_->options; }
  /// Of the GPU.
  [[nodiscard]] const CudaProperties& properties() const noexcept { return context_->properties; }
  /// Calls of allocate() so far, scratch included.
  [[nodiscard]] std::uint64_t allocations() const noexcept {
    return context_->allocations + context_->scratch.growths();
  }
  /// The one T of this context, made with `T(*this)` when first asked for: library handles, plans.
  /// T must not keep a Cuda: the context would own itself.
  template <class T>
  [[nodiscard]] T& service() const {
    auto& slot = context_->services[std::type_index(typeid(T))];
    if (slot == nullptr) {
      static_cast<void>(stream());
      slot = std::make_shared<T>(*this);
    }
    return *static_cast<T*>(slot.get());
  }

 private:
  /// Pinned memory that copies from the host go through, so that they need not wait for the device.
  struct Staging {
    static constexpr std::size_t parts = 4;
    static constexpr std::size_t part_bytes = std::size_t{1} << 20U;

    cuda::PinnedMemory memory;              // (parts, part_bytes)
    std::array<cuda::Event, parts> free{};  // when the copies out of a part are done
    std::size_t part = 0;                   // the one that is being filled
    std::size_t used = 0;                   // bytes of it
  };
  [[nodiscard]] static CudaProperties found_properties(int device);
  struct Context {
    CudaOptions options;
    CudaProperties properties;
    std::shared_ptr<cuda::Pool> pool;
    cuda::Stream stream;
    cuda::Event fence;
    Memory memory;
    ScratchStack<Memory> scratch;
    Staging staging;
    std::map<std::type_index, std::shared_ptr<void>> services;
    std::uint64_t allocations = 0;

    Context(CudaOptions wanted, std::shared_ptr<cuda::Pool> shared_pool)
        : options(wanted),
          properties(found_properties(wanted.device)),
          pool(shared_pool != nullptr ? std::move(shared_pool)
                                      : std::make_shared<cuda::Pool>(cuda::make_pool(wanted.device))),
          stream(cuda::make_stream()),
          fence(cuda::make_event()),
          memory{.stream = stream.get(), .pool = pool->get()},
          scratch(memory) {}
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    ~Context() { static_cast<void>(cudaStreamSynchronize(stream.get())); }
  };

  Cuda(CudaOptions options, std::shared_ptr<cuda::Pool> pool)
      : context_(std::make_shared<Context>(options, std::move(pool))) {}

  std::shared_ptr<Context> context_;
};

/// post() orders a copy, wait() waits for that copy alone. Where the host needs no copy it costs nothing.
class Cuda::Readback {
 public:
  /// Room for `bytes`. @throws CudaError
  Readback(const Cuda& device, std::size_t bytes) : device_(device), bytes_(bytes) {
    static_cast<void>(device.stream());
    memory_ = cuda::make_pinned(bytes);
    done_ = cuda::make_event();
  }
  Readback(Readback&&) noexcept = default;   ///< with what is under way
  Readback& operator=(Readback&&) = delete;  // what is under way may still be written
  ~Readback() {
    if (done_ != nullptr) static_cast<void>(cudaEventSynchronize(done_.get()));  // a copy may still write
  }

  /// Orders the copy of what `from` will be when the work given to the device so far is done. @throws CudaError
  void post(const void* from) {
    device_.copy_to_host(memory_.get(), from, bytes_);
    STORYLM_CUDA_CHECK(cudaEventRecord(done_.get(), device_.stream()));
  }
  /// Waits for the last post() and gives what it copied; valid until the next. @throws CudaError
  [[nodiscard]] const void* wait() const {
    STORYLM_CUDA_CHECK(cudaEventSynchronize(done_.get()));
    return memory_.get();
  }

 private:
  Cuda device_;
  std::size_t bytes_;
  cuda::PinnedMemory memory_;
  cuda::Event done_;
};

/// The first run() does its work step by step, so that everything it needs is allocated; the second records it as a
/// CUDA graph; all others replay that, in one call. So the work must be the same each time: the same kernels on the
/// same memory. What changes from time to time lies in that memory. When the scratch stack has grown since, what was
/// recorded may point to memory that is no more, and it begins anew.
class Cuda::Recording {
 public:
  /// @throws CudaError, and whatever work() throws when it is not replayed
  template <class Work>
  void run(const Cuda& device, Work&& work) {
    const std::uint64_t growths = device.context_->scratch.growths();
    if (execution_ != nullptr && growths != growths_) {
      execution_.reset();
      warm_ = false;
    }
    if (execution_ == nullptr && !std::exchange(warm_, true)) {
      work();
      return;
    }
    if (execution_ == nullptr) {
      record(device, work);
      growths_ = growths;
    }
    STORYLM_CUDA_CHECK(cudaGraphLaunch(execution_.get(), device.stream()));
  }
  /// True once it replays.
  [[nodiscard]] bool recorded() const noexcept { return execution_ != nullptr; }

 private:
  template <class Work>
  void record(const Cuda& device, Work& work) {
    STORYLM_CUDA_CHECK(cudaStreamBeginCapture(device.stream(), cudaStreamCaptureModeThreadLocal));
    const auto end = [&] {
      cudaGraph_t graph{};
      const cudaError_t code = cudaStreamEndCapture(device.stream(), &graph);
      return std::pair(code, cuda::Graph(graph));
    };
    try {
      work();
    } catch (...) {
      static_cast<void>(end());
      static_cast<void>(cudaGetLastError());  // of an end that failed too: a later launch would be blamed
      throw;
    }
    const auto [code, graph] = end();
    STORYLM_CUDA_CHECK(code);
    cudaGraphExec_t execution{};
    STORYLM_CUDA_CHECK(cudaGraphInstantiate(&execution, graph.get(), 0));
    execution_.reset(execution);
  }

  bool warm_ = false;
  std::uint64_t growths_ = 0;  // of the scratch stack, when it was recorded
  cuda::GraphExecution execution_;
};

// ---------------------------------------------------------------------------------------------------------------------

inline CudaProperties Cuda::found_properties(int device) {
  int count = 0;
  STORYLM_CUDA_CHECK(cudaGetDeviceCount(&count));
  expects<CudaError>(device >= 0 && device < count, "cuda", "there is no GPU ", device, ": there are ", count);
  STORYLM_CUDA_CHECK(cudaSetDevice(device));
  cudaDeviceProp found{};
  STORYLM_CUDA_CHECK(cudaGetDeviceProperties(&found, device));
  expects<CudaError>(found.major >= 8, "cuda", "GPU ", device, " (", found.name, ") has compute capability ",
                     found.major, '.', found.minor, ", needed is 8.0");
  return {.name = found.name,
          .capability = 10 * found.major + found.minor,
          .multiprocessors = found.multiProcessorCount,
          .shared_bytes = found.sharedMemPerBlockOptin,
          .l2_bytes = static_cast<std::size_t>(found.l2CacheSize)};
}

inline void Cuda::copy_from_host(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return;
  cudaStream_t const order = stream();
  expects<CudaError>(!cuda::is_capturing(order), "cuda", "a copy from the host cannot be recorded: ", bytes, " bytes");
  Staging& staging = context_->staging;
  if (staging.memory == nullptr) {
    staging.memory = cuda::make_pinned(Staging::parts * Staging::part_bytes);
    for (auto& event : staging.free) event = cuda::make_event();
  }
  for (std::size_t done = 0; done < bytes;) {
    if (staging.used == Staging::part_bytes) {  // an event that was never recorded is over
      STORYLM_CUDA_CHECK(cudaEventRecord(staging.free[staging.part].get(), order));
      staging.part = (staging.part + 1) % Staging::parts;
      staging.used = 0;
      STORYLM_CUDA_CHECK(cudaEventSynchronize(staging.free[staging.part].get()));
    }
    const std::size_t count = std::min(bytes - done, Staging::part_bytes - staging.used);
    auto* const pinned =
        static_cast<std::byte*>(staging.memory.get()) + staging.part * Staging::part_bytes + staging.used;
    std::memcpy(pinned, static_cast<const std::byte*>(from) + done, count);
    STORYLM_CUDA_CHECK(
        cudaMemcpyAsync(static_cast<std::byte*>(to) + done, pinned, count, cudaMemcpyHostToDevice, order));
    staging.used += count;
    done += count;
  }
}

static_assert(Device<Cuda>);

}  // namespace storylm
