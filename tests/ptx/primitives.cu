// SPDX-License-Identifier: MIT
// Each primitive of kernels/cuda/primitives.cuh in a kernel of its own. scripts/check_ptx.py compiles this file to PTX
// and looks for the instructions that are meant:
//   // PTX: pattern     a regular expression that the next kernel's code contains; several lines: in that order
//   // NOT: pattern     one that it does not contain
#include <storylm/kernels/cuda/primitives.cuh>

using namespace storylm;
using std::uint32_t;

struct Tag;

// PTX: %tid\.x
// PTX: %ntid\.x
extern "C" __global__ void where_in_block(int* p) { *p = cuda::thread_index() ^ cuda::block_threads(); }
// PTX: %ctaid\.x
// PTX: %ctaid\.y
// PTX: %ctaid\.z
extern "C" __global__ void which_block(int* p) { *p = cuda::block_x() ^ cuda::block_y() ^ cuda::block_z(); }
// PTX: %nctaid\.x
// PTX: %nctaid\.y
// PTX: %nctaid\.z
extern "C" __global__ void how_many_blocks(int* p) { *p = cuda::grid_x() ^ cuda::grid_y() ^ cuda::grid_z(); }
// PTX: %tid\.x
// NOT: \b(div|rem)\.
extern "C" __global__ void where_in_warp(int* p) { *p = cuda::lane_index() ^ cuda::warp_index(); }

// PTX: (bar\.sync|barrier\.sync(\.aligned)?)\s+0;
extern "C" __global__ void sync_block() { cuda::sync_block(); }
// PTX: bar\.warp\.sync\s+(-1|%r\d+);
extern "C" __global__ void sync_warp() { cuda::sync_warp(); }

// PTX: shfl\.sync\.bfly\.b32\s+%r\d+(\|%p\d+)?, %r\d+, (4|%r\d+), (31|%r\d+), (-1|%r\d+);
extern "C" __global__ void shuffle_xor(float* p) { *p = cuda::shuffle_xor(*p, 4); }
// PTX: shfl\.sync\.idx\.b32\s+%r\d+(\|%p\d+)?, %r\d+, (3|%r\d+), (31|%r\d+), (-1|%r\d+);
extern "C" __global__ void shuffle(int* p) { *p = cuda::shuffle(*p, 3); }
// PTX: shfl\.sync\.up\.b32\s+%r\d+(\|%p\d+)?, %r\d+, (2|%r\d+), (0|%r\d+), (-1|%r\d+);
extern "C" __global__ void shuffle_up(int* p) { *p = cuda::shuffle_up(*p, 2); }
// PTX: shfl\.sync\.bfly\.b32
// PTX: shfl\.sync\.bfly\.b32
extern "C" __global__ void shuffle_of_8_bytes(double* p) { *p = cuda::shuffle_xor(*p, 1); }
// PTX: vote\.sync\.ballot\.b32
extern "C" __global__ void ballot(uint32_t* p) { *p = cuda::ballot(*p != 0); }
// PTX: vote\.sync\.any\.pred
extern "C" __global__ void any(int* p) { *p = cuda::any(*p != 0) ? 5 : 7; }
// PTX: vote\.sync\.all\.pred
extern "C" __global__ void all(int* p) { *p = cuda::all(*p != 0) ? 5 : 7; }

// PTX: \.shared \.align 16 \.b8 \S*values\S*\[132\];
// PTX: st\.shared
// NOT: \.local
extern "C" __global__ void shared_array(float* p) {
  float* const values = cuda::shared_array<float, 33, Tag>();
  values[cuda::thread_index()] = *p;
  cuda::sync_block();
  *p = values[32 - cuda::thread_index()];
}
// PTX: st\.shared
extern "C" __global__ void dynamic_shared(unsigned char* p) {
  cuda::dynamic_shared()[cuda::thread_index()] = *p;
  cuda::sync_block();
  *p = cuda::dynamic_shared()[32 - cuda::thread_index()];
}
// PTX: cvta\.to\.shared
extern "C" __global__ void shared_address(uint32_t* p, const void* q) { *p = cuda::shared_address(q); }

// PTX: cvta\.to\.global
// PTX: cp\.async\.cg\.shared\.global \[%r\d+\], \[%rd\d+\], 16, %r\d+;
extern "C" __global__ void copy_async16(uint32_t to, const void* from, bool valid) {
  cuda::copy_async16(to, from, valid);
}
// PTX: cp\.async\.commit_group;
extern "C" __global__ void commit_copies() { cuda::commit_copies(); }
// PTX: cp\.async\.wait_group 3;
extern "C" __global__ void wait_copies() { cuda::wait_copies<3>(); }

// PTX: ldmatrix\.sync\.aligned\.m8n8\.x4\.shared\.b16 \{%r\d+,\s*%r\d+,\s*%r\d+,\s*%r\d+\}, \[%r\d+\];
extern "C" __global__ void load_matrix_x4(uint32_t* p, uint32_t address) {
  uint32_t r[4];
  cuda::load_matrix_x4(r, address);
  for (int i = 0; i < 4; ++i) p[i] = r[i];
}
// PTX: ldmatrix\.sync\.aligned\.m8n8\.x4\.trans\.shared\.b16
extern "C" __global__ void load_matrix_x4_transposed(uint32_t* p, uint32_t address) {
  uint32_t r[4];
  cuda::load_matrix_x4_transposed(r, address);
  for (int i = 0; i < 4; ++i) p[i] = r[i];
}
// PTX: mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32
extern "C" __global__ void mma_m16n8k16_bf16(float* p, uint32_t a) {
  float d[4] = {p[0], p[1], p[2], p[3]};
  const uint32_t fragment[4] = {a, a + 1, a + 2, a + 3};
  cuda::mma_m16n8k16<bf16>(d, fragment, a, a);
  for (int i = 0; i < 4; ++i) p[i] = d[i];
}
// PTX: mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.f16\.f16\.f32
extern "C" __global__ void mma_m16n8k16_half(float* p, uint32_t a) {
  float d[4] = {p[0], p[1], p[2], p[3]};
  const uint32_t fragment[4] = {a, a + 1, a + 2, a + 3};
  cuda::mma_m16n8k16<half>(d, fragment, a, a);
  for (int i = 0; i < 4; ++i) p[i] = d[i];
}

// PTX: shl\.b32\s+%r\d+, %r\d+, 16;
// NOT: cvt\.f32
extern "C" __global__ void to_float_bf16(float* p, const bf16* x) { *p = cuda::to_float(*x); }
// PTX: cvt\.f32\.f16
extern "C" __global__ void to_float_half(float* p, const half* x) { *p = cuda::to_float(*x); }
// PTX: cvt\.rn\.bf16x2\.f32
extern "C" __global__ void pack_bf16(uint32_t* p, float x, float y) { *p = cuda::pack<bf16>(x, y); }
// PTX: cvt\.rn\.f16\.f32
// PTX: cvt\.rn\.f16\.f32
extern "C" __global__ void pack_half(uint32_t* p, float x, float y) { *p = cuda::pack<half>(x, y); }
// PTX: cvt\.rn\.bf16x2\.f32
// PTX: st\.global\.(u|b)16
extern "C" __global__ void from_float_bf16(bf16* p, float x) { *p = cuda::from_float<bf16>(x); }
// PTX: cvt\.rn\.f16\.f32
// PTX: st\.global\.(u|b)16
extern "C" __global__ void from_float_half(half* p, float x) { *p = cuda::from_float<half>(x); }

// PTX: ex2\.approx\.ftz\.f32
extern "C" __global__ void fast_exp2(float* p) { *p = cuda::fast_exp2(*p); }
// PTX: mul\.(rn\.)?(ftz\.)?f32\s+%f?r?\d+, %f?r?\d+, 0f3FB8AA3B;
// PTX: ex2\.approx\.ftz\.f32
extern "C" __global__ void fast_exp(float* p) { *p = cuda::fast_exp(*p); }
// PTX: lg2\.approx\.(ftz\.)?f32
extern "C" __global__ void fast_log2(float* p) { *p = cuda::fast_log2(*p); }
// PTX: div\.approx\.(ftz\.)?f32
extern "C" __global__ void fast_divide(float* p, float x) { *p = cuda::fast_divide(*p, x); }
// PTX: mul\.hi\.u32
extern "C" __global__ void multiply_high(uint32_t* p, uint32_t x) { *p = cuda::multiply_high(*p, x); }
// PTX: popc\.b32
extern "C" __global__ void count_bits(int* p, uint32_t x) { *p = cuda::count_bits(x); }
// PTX: brev\.b32
// PTX: (bfind\.shiftamt\.u32|clz\.b32)
extern "C" __global__ void lowest_bit(int* p, uint32_t x) { *p = cuda::lowest_bit(x); }

// PTX: atom\.(global\.)?add\.(u|s)32
extern "C" __global__ void atomic_add(int* p, int* q) { *q = cuda::atomic_add(p, 3); }
// PTX: atom\.(global\.)?min\.s32
extern "C" __global__ void atomic_min(int* p, int* q) { *q = cuda::atomic_min(p, 3); }
// PTX: atom\.(global\.)?max\.s32
extern "C" __global__ void atomic_max(int* p, int* q) { *q = cuda::atomic_max(p, 3); }
// PTX: atom\.(global\.)?or\.b32
extern "C" __global__ void atomic_or(uint32_t* p, uint32_t* q) { *q = cuda::atomic_or(p, 3); }
// PTX: (membar\.gl|fence\.(acq_rel|sc)\.gpu)
extern "C" __global__ void fence_device() { cuda::fence_device(); }
