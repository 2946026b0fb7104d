// SPDX-License-Identifier: MIT
// A kernel that does what its argument says, for asan_test: AddressSanitizer must end this program, or must not.
#include <cstdint>
#include <iostream>
#include <string>

#include <storylm/kernels/cuda/primitives.cuh>

using namespace storylm;

namespace {

struct Tag;
__global__ void write_at(float* y, int offset) { y[cuda::thread_index() + offset] = 1.0F; }
__global__ void read_at(float* y, const float* x, int offset) {
  y[cuda::thread_index()] = x[cuda::thread_index() + offset];
}
__global__ void shared_at(float* y, int offset) {
  float* const array = cuda::shared_array<float, 33, Tag>();
  array[cuda::thread_index() + offset] = 1.0F;
  cuda::sync_block();
  y[cuda::thread_index()] = array[cuda::thread_index() + offset];
}
__global__ void dynamic_at(int offset) { cuda::dynamic_shared()[cuda::thread_index() + offset] = 1; }
__global__ void copy_at(const float* x, int offset) {
  cuda::copy_async16(cuda::shared_address(cuda::dynamic_shared() + cuda::thread_index() * 16),
                     x + cuda::thread_index() * 4 + offset, true);
}
/// Deep enough to show that fibers' stacks are known: each level has guarded variables, some run into a barrier.
__global__ void recurse(float* y) {
  const auto sum = [](auto&& self, int depth) -> int {
    volatile int values[16] = {};
    for (int i = 0; i < 16; ++i) values[i] = depth * i;
    const int below = depth == 0 ? 0 : self(self, depth - 1);
    cuda::sync_block();
    return below + values[15] + cuda::shuffle_xor(values[1], 1);
  };
  y[cuda::thread_index()] = static_cast<float>(sum(sum, 20));
}
__global__ void stuck(float* y) {
  volatile int values[16] = {};
  if (cuda::thread_index() > 3) cuda::sync_block();
  y[cuda::thread_index()] = static_cast<float>(values[3]);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const Cuda device;
  auto* const x = static_cast<float*>(device.allocate(128 * sizeof(float)));
  auto* const y = static_cast<float*>(device.allocate(32 * sizeof(float)));
  const auto shared = [&](auto kernel, std::size_t bytes, auto... arguments) {
    cuda::launch(device, kernel, dim3(2), 32, bytes, arguments...);
  };
  if (what == "write_beyond") {
    shared(write_at, 0, y, 1);
  } else if (what == "write_before") {
    shared(write_at, 0, y, -1);
  } else if (what == "read_beyond") {
    shared(read_at, 0, y, x, 97);
  } else if (what == "shared_beyond") {
    shared(shared_at, 0, y, 2);
  } else if (what == "dynamic_beyond") {
    shared(dynamic_at, 32, 1);
  } else if (what == "copy_beyond") {
    shared(copy_at, 512, x, 4);
  } else if (what == "use_after_free") {
    device.deallocate(y);
    shared(write_at, 0, y, 0);
  } else if (what == "host_after_free") {
    auto* const host = new float[32]();
    device.copy_to_host(host, y, 128);
    delete[] host;
    device.synchronize();
  } else {
    for (int i = 0; i < 3; ++i) {
      shared(write_at, 0, y, 0);
      shared(read_at, 0, y, x, 96);
      shared(shared_at, 0, y, 1);
      shared(dynamic_at, 32, 0);
      shared(copy_at, 512, x, 0);
      shared(recurse, 0, y);
      try {  // fibers left in the middle of their functions are used again
        shared(stuck, 0, y);
        device.synchronize();
        return 3;
      } catch (const CudaError&) {
      }
    }
  }
  if (what != "use_after_free") device.deallocate(y);
  device.deallocate(x);
  device.synchronize();
  std::cout << "done\n";
}
