// SPDX-License-Identifier: MIT
// Blocks, warps and threads: who runs next, and where they meet.
#include "engine.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <sstream>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fibers.hpp"

namespace emulator {

Position position;
std::uint64_t current_launch = 0;
Watcher* watcher = nullptr;
Watcher* available_watcher = nullptr;
bool in_watched_kernel = false;
Regions regions{};

namespace {

constexpr std::uint32_t shared_base = 1024;  // of addresses: null is none
constexpr std::size_t static_limit = std::size_t{48} << 10U;
constexpr int warp_size = 32;

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  std::uint64_t group;
  bool landed;
};

struct Thread {
  Fiber* fiber = nullptr;
  int index = 0;
  const char* where = nullptr;    // it waits at, nullptr when it can run
  const void* address = nullptr;  // of the call
  std::vector<Copy> copies;       // that have not been waited for, oldest first
  std::uint64_t group = 0;        // that is open
};

struct Lane {
  std::uint64_t in, out;
  std::uint32_t words[6];
};

struct Warp {
  std::uint32_t lanes = 0;     // that there are
  std::uint32_t runnable = 0;  // a bit for each lane
  int arrived = 0;             // at the collective
  const char* name = nullptr;  // of it
  const void* address = nullptr;
  unsigned slot = 0;  // a fast lane can be one collective ahead of a slow one, never two
  std::array<std::array<Lane, warp_size>, 2> exchange{};
  std::array<std::uint32_t, warp_size> matrices[2][4];  // what load_matrix_x4 gives
  std::array<float, warp_size> products[2][4];          // what mma gives
};

struct Slice {
  std::size_t begin, end;
};

struct Engine {
  Random random;
  const void* kernel = nullptr;
  const std::function<void()>* body = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::uint32_t ready = 0;  // warps with a runnable lane
  int count = 0;            // threads of the block
  int arrived = 0;          // at the block's barrier
  int left = 0;             // threads that have not ended
  Thread* current = nullptr;
  Fiber scheduler;
  std::string error;
  bool failed = false;

  alignas(128) std::array<unsigned char, shared_capacity> shared{};
  std::size_t dynamic_bytes = 0;
  std::size_t shared_used = 0;
  std::size_t static_used = 0;
  std::vector<Slice> slices;  // of shared memory that are in use; between them lies what no kernel may touch
};

Engine& engine() {
  static auto* const made = new Engine;  // for ever: fibers may hold on to it
  return *made;
}

void leave(Engine& e, bool last = false) { switch_fiber(*e.current->fiber, e.scheduler, last); }

std::string place_text(const Engine& e) {
  std::ostringstream text;
  text << "kernel " << describe_function(e.kernel) << ", block (" << position.block_x << ", " << position.block_y
       << ", " << position.block_z << ")";
  return text.str();
}

}  // namespace

// The block is given up, and this fiber with it.
void fail(const std::string& what, const void* caller) {
  in_watched_kernel = false;
  Engine& e = engine();
  std::ostringstream text;
  text << place_text(e) << ", thread " << e.current->index << ": " << what;
  if (caller != nullptr) text << ", at " << describe_return_address(caller);
  e.error = text.str();
  e.failed = true;
  for (;;) leave(e);
}

namespace {

void land(Copy& copy) {
  if (std::exchange(copy.landed, true)) return;
  if (copy.from != nullptr)
    std::memcpy(copy.to, copy.from, 16);
  else
    std::memset(copy.to, 0, 16);
}

void entry() {
  Engine& e = engine();
  begin_fiber(e.scheduler);
  try {
    in_watched_kernel = watcher != nullptr;
    (*e.body)();
    in_watched_kernel = false;
  } catch (const std::exception& error) {
    fail(std::string("exception: ") + error.what(), nullptr);
  } catch (...) {
    fail("exception", nullptr);
  }
  Thread& self = *e.current;
  for (Copy& copy : self.copies) land(copy);
  self.copies.clear();
  Warp& warp = e.warps[static_cast<std::size_t>(self.index / warp_size)];
  warp.runnable &= ~(1U << static_cast<unsigned>(self.index % warp_size));
  self.where = "its end";
  --e.left;
  for (;;) leave(e, true);
}

std::string deadlock_text(const Engine& e) {
  struct Group {
    const char* where;
    const void* address;
    int first, count;
  };
  std::vector<Group> groups;
  for (int i = 0; i < e.count; ++i) {
    const Thread& t = e.threads[static_cast<std::size_t>(i)];
    const auto same = [&](const Group& g) { return std::strcmp(g.where, t.where) == 0 && g.address == t.address; };
    if (const auto found = std::find_if(groups.begin(), groups.end(), same); found != groups.end())
      ++found->count;
    else
      groups.push_back({t.where, t.address, i, 1});
  }
  std::ostringstream text;
  text << place_text(e) << ": deadlock:";
  for (const Group& g : groups) {
    text << (&g == groups.data() ? " " : "; ") << g.count << (g.count == 1 ? " thread" : " threads") << " (thread "
         << g.first << (g.count == 1 ? ")" : " and others)") << " at " << g.where;
    if (g.address != nullptr) text << ", " << describe_return_address(g.address);
  }
  return text.str();
}

// The orders in which lanes of a warp may run.
const std::array<std::uint8_t, warp_size>& lane_order(std::uint32_t random) {
  static const auto orders = [] {
    std::vector<std::array<std::uint8_t, warp_size>> made(256);
    Random r;
    r.seed(1);
    for (auto& order : made) {
      std::iota(order.begin(), order.end(), std::uint8_t{0});
      for (std::uint32_t i = warp_size - 1; i > 0; --i) std::swap(order[i], order[r.below(i + 1)]);
    }
    std::iota(made[0].begin(), made[0].end(), std::uint8_t{0});
    std::iota(made[1].rbegin(), made[1].rend(), std::uint8_t{0});
    return made;
  }();
  return orders[random % orders.size()];
}

void run_lane(Engine& e, Warp& warp, std::size_t index) {
  Thread& thread = e.threads[index];
  if (thread.fiber == nullptr) thread.fiber = make_fiber(entry);
  e.current = &thread;
  position.thread = thread.index;
  regions.stack = thread.fiber->stack;
  regions.stack_bytes = thread.fiber->stack_bytes;
  switch_fiber(e.scheduler, *thread.fiber);
  if (e.failed) return;
  if ((warp.runnable >> (index % warp_size) & 1U) == 0 && thread.address == nullptr) {  // ended
    recycle(std::exchange(thread.fiber, nullptr), true);
  }
}

void run_block(Engine& e) {
  const int filling = (e.random() & 1U) != 0 ? 0xFF : 0xCD;  // nothing is zero by luck
  for (const Slice& slice : e.slices) std::memset(e.shared.data() + slice.begin, filling, slice.end - slice.begin);
  const int warps = (e.count + warp_size - 1) / warp_size;
  if (watcher != nullptr) watcher->block_begins();
  e.ready = warps == 32 ? ~0U : (1U << static_cast<unsigned>(warps)) - 1U;
  e.arrived = 0;
  e.left = e.count;
  for (int i = 0; i < e.count; ++i) {
    Thread& t = e.threads[static_cast<std::size_t>(i)];
    t.index = i;
    t.where = "work";
    t.address = nullptr;
    t.copies.clear();
    t.group = 0;
  }
  for (int w = 0; w < warps; ++w) {
    Warp& warp = e.warps[static_cast<std::size_t>(w)];
    const int lanes = std::min(warp_size, e.count - w * warp_size);
    warp.lanes = lanes == warp_size ? ~0U : (1U << static_cast<unsigned>(lanes)) - 1U;
    warp.runnable = warp.lanes;
    warp.arrived = 0;
    warp.slot = 0;
  }
  while (e.left > 0) {
    if (e.ready == 0) throw KernelError(deadlock_text(e));
    // A random warp runs alone for a random while: to where all its lanes wait, if it is long.
    auto nth = e.random.below(static_cast<std::uint32_t>(std::popcount(e.ready)));
    std::uint32_t bits = e.ready;
    for (; nth > 0; --nth) bits &= bits - 1U;
    const auto w = static_cast<std::size_t>(std::countr_zero(bits));
    Warp& warp = e.warps[w];
    const std::uint32_t draw = e.random();
    for (std::uint32_t passes = (draw & 1U) != 0 ? ~0U : 1U + (draw >> 1U) % 4U; passes > 0 && warp.runnable != 0;
         --passes) {
      for (const std::uint8_t lane : lane_order(e.random())) {
        if ((warp.runnable >> lane & 1U) == 0) continue;
        run_lane(e, warp, w * warp_size + lane);
        if (e.failed) throw KernelError(e.error);
      }
    }
    if (warp.runnable == 0) e.ready &= ~(1U << w);
  }
}

// Fibers that a failed block left in the middle of their work.
void give_up(Engine& e) {
  for (Thread& t : e.threads) {
    if (t.fiber != nullptr) recycle(std::exchange(t.fiber, nullptr), false);
    t.copies.clear();
  }
}

// For mutation tests: the barriers and waits of one line are left out, and all that are met are written down.
class Sites {
 public:
  Sites() {
    if (const char* const line = std::getenv("STORYLM_EMULATOR_SKIP"); line != nullptr) skip_ = line;
    if (const char* const path = std::getenv("STORYLM_EMULATOR_SITES"); path != nullptr)
      list_.open(path, std::ios::app);
  }
  /// True when the call of `primitive` that returns to `caller` is to be left out.
  [[nodiscard]] bool left_out(const char* primitive, const void* caller) {
    if (skip_.empty() && !list_.is_open()) return false;
    const auto [found, first] = known_.try_emplace(caller, false);
    if (first) {
      const std::string line = describe_return_address(caller);
      const std::string site = line.substr(0, line.find(" in "));
      found->second = site == skip_;
      if (list_.is_open()) list_ << primitive << ' ' << site << std::endl;
    }
    return found->second;
  }

 private:
  std::string skip_;
  std::ofstream list_;
  std::unordered_map<const void*, bool> known_;
};
bool left_out(const char* primitive, const void* caller) {
  static auto* const sites = new Sites;
  return sites->left_out(primitive, caller);
}

Warp& current_warp(Engine& e) { return e.warps[static_cast<std::size_t>(e.current->index / warp_size)]; }

// One warp collective: bring() leaves what this lane has, the last lane to come does finish() for all, take() gets.
// Both get the slot.
template <class Bring, class Finish, class Take>
void collective(const char* name, const void* address, Bring bring, Finish finish, Take take) {
  Engine& e = engine();
  Thread& self = *e.current;
  Warp& warp = current_warp(e);
  if (warp.lanes != ~0U) fail(std::string(name) + " in a warp of fewer than 32 threads", address);
  if (warp.arrived == 0) {
    warp.name = name;
    warp.address = address;
  } else if (warp.name != name && std::strcmp(warp.name, name) != 0) {
    fail(std::string(name) + " while other lanes of its warp stand at " + warp.name + ", " +
             describe_return_address(warp.address),
         address);
  }
  const unsigned slot = warp.slot;
  const auto lane = static_cast<std::size_t>(self.index % warp_size);
  bring(warp, slot, lane);
  if (++warp.arrived == warp_size) {
    finish(warp, slot);
    warp.arrived = 0;
    warp.slot ^= 1U;
    warp.runnable = ~0U;
    e.ready |= 1U << static_cast<unsigned>(self.index / warp_size);
  } else {
    warp.runnable &= ~(1U << lane);
    self.where = name;
    self.address = address;
    leave(e);
    self.where = "work";
    self.address = nullptr;
  }
  take(warp, slot, lane);
}

unsigned char* at_shared(std::uint32_t address, std::size_t bytes, const char* name, const void* caller) {
  Engine& e = engine();
  if (address % 16 != 0) fail(std::string(name) + ": a shared address that is no multiple of 16", caller);
  const std::size_t begin = std::size_t{address} - shared_base;  // a huge one when it is below
  for (const Slice& slice : e.slices)
    if (begin >= slice.begin && begin + bytes <= slice.end) return e.shared.data() + begin;
  fail(std::string(name) + ": an address outside the block's shared memory: " + std::to_string(address), caller);
}

float to_float(std::uint32_t bits, Sixteen type) {
  if (type == Sixteen::bf16) return std::bit_cast<float>(bits << 16U);
  const std::uint32_t sign = (bits & 0x8000U) << 16U;
  const std::uint32_t rest = (bits & 0x7FFFU) << 13U;
  if ((bits & 0x7C00U) == 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | rest);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) * 0x1p112F) | sign);
}

// d = a b of one warp, fragments as the PTX ISA has them for mma.m16n8k16.
void multiply(Warp& warp, unsigned slot, Sixteen type) {
  float a[16][16];  // (row, k)
  float b[16][8];   // (k, column)
  for (int l = 0; l < warp_size; ++l) {
    const int g = l / 4;
    const int t = l % 4;
    const auto& words = warp.exchange[slot][static_cast<std::size_t>(l)].words;
    for (int r = 0; r < 4; ++r) {
      const int row = g + (r & 1) * 8;
      const int k = 2 * t + (r >> 1) * 8;
      a[row][k] = to_float(words[r] & 0xFFFFU, type);
      a[row][k + 1] = to_float(words[r] >> 16U, type);
    }
    for (int r = 0; r < 2; ++r) {
      const int k = 2 * t + r * 8;
      b[k][g] = to_float(words[4 + r] & 0xFFFFU, type);
      b[k + 1][g] = to_float(words[4 + r] >> 16U, type);
    }
  }
  for (int row = 0; row < 16; ++row) {
    float sum[8] = {};
    for (int k = 0; k < 16; ++k)
      for (int c = 0; c < 8; ++c) sum[c] += a[row][k] * b[k][c];
    for (int c = 0; c < 8; ++c)
      warp.products[slot][(row / 8) * 2 + c % 2][static_cast<std::size_t>((row % 8) * 4 + c / 2)] = sum[c];
  }
}

}  // namespace

void run_grid(const void* kernel, dim3 grid, int threads, std::size_t shared_bytes,
              const std::function<void()>& thread) {
  Engine& e = engine();
  ++current_launch;
  regions.shared = e.shared.data();
  if (static bool asked = false; !std::exchange(asked, true) && watcher == nullptr) {
    const char* const wanted = std::getenv("STORYLM_EMULATOR_RACES");
    if (wanted != nullptr && std::string_view(wanted) == "1" && !watch_races(true))
      throw KernelError("STORYLM_EMULATOR_RACES=1, but no kernel was compiled with -fsanitize=thread");
  }
  e.random.seed(host_random()() + (std::uint64_t{host_random()()} << 32U));
  if (watcher != nullptr) watcher->launch_begins();
  e.kernel = kernel;
  e.body = &thread;
  e.count = threads;
  e.dynamic_bytes = shared_bytes;
  e.shared_used = (shared_bytes + 127) / 128 * 128;
  e.static_used = 0;
  e.slices.assign(1, {0, shared_bytes});
  poison(e.shared.data(), e.shared.size());
  unpoison(e.shared.data(), shared_bytes);
  e.failed = false;
  e.threads.resize(std::max(e.threads.size(), static_cast<std::size_t>(threads)));
  e.warps.resize(std::max(e.warps.size(), static_cast<std::size_t>((threads + warp_size - 1) / warp_size)));
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  std::vector<std::uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0U);
  for (std::size_t i = blocks; i > 1; --i)
    std::swap(order[i - 1], order[e.random.below(static_cast<std::uint32_t>(i))]);
  position.threads = threads;
  position.grid_x = static_cast<int>(grid.x);
  position.grid_y = static_cast<int>(grid.y);
  position.grid_z = static_cast<int>(grid.z);
  try {
    for (const std::uint32_t block : order) {
      position.block_x = static_cast<int>(block % grid.x);
      position.block_y = static_cast<int>(block / grid.x % grid.y);
      position.block_z = static_cast<int>(block / grid.x / grid.y);
      run_block(e);
    }
  } catch (...) {
    give_up(e);
    throw;
  }
}

bool watch_races(bool on) {
  watcher = on ? available_watcher : nullptr;
  return available_watcher != nullptr;
}

unsigned char* place_shared_array(SharedArray& array, std::size_t bytes) {
  const Outside outside;
  Engine& e = engine();
  const std::size_t rounded = (bytes + 127) / 128 * 128;
  e.static_used += bytes;
  if (e.static_used > static_limit)
    fail("shared arrays of " + std::to_string(e.static_used) + " bytes: at most 48 KiB", __builtin_return_address(0));
  if (e.static_used + e.dynamic_bytes > properties().sharedMemPerBlockOptin)
    fail("shared arrays of " + std::to_string(e.static_used) + " bytes beside " + std::to_string(e.dynamic_bytes) +
             " bytes of dynamic shared memory: at most " + std::to_string(properties().sharedMemPerBlockOptin),
         __builtin_return_address(0));
  if (e.static_used + e.dynamic_bytes > properties().sharedMemPerBlock && !has_shared_limit(e.kernel))
    fail("shared arrays of " + std::to_string(e.static_used) + " bytes beside " + std::to_string(e.dynamic_bytes) +
             " bytes of dynamic shared memory: more than 48 KiB need cudaFuncSetAttribute",
         __builtin_return_address(0));
  array.memory = e.shared.data() + e.shared_used;
  array.launch = current_launch;
  e.slices.push_back({e.shared_used, e.shared_used + bytes});
  unpoison(array.memory, bytes);
  std::memset(array.memory, 0xFF, bytes);
  e.shared_used += rounded;
  return array.memory;
}

unsigned char* dynamic_shared() { return engine().shared.data(); }

std::uint32_t shared_address(const void* p) {
  const Outside outside;
  Engine& e = engine();
  const auto offset = reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(e.shared.data());
  if (offset > e.shared_used) fail("shared_address of something that is not shared", __builtin_return_address(0));
  return static_cast<std::uint32_t>(offset) + shared_base;
}

void sync_block() {
  const Outside outside;
  if (left_out("sync_block", __builtin_return_address(0))) return;
  Engine& e = engine();
  Thread& self = *e.current;
  if (++e.arrived == e.count) {
    e.arrived = 0;
    if (watcher != nullptr) watcher->block_synchronized();
    const int warps = (e.count + warp_size - 1) / warp_size;
    for (int w = 0; w < warps; ++w) {
      Warp& warp = e.warps[static_cast<std::size_t>(w)];
      warp.runnable = warp.lanes;
    }
    e.ready = warps == 32 ? ~0U : (1U << static_cast<unsigned>(warps)) - 1U;
    return;
  }
  current_warp(e).runnable &= ~(1U << static_cast<unsigned>(self.index % warp_size));
  self.where = "sync_block";
  self.address = __builtin_return_address(0);
  leave(e);
  self.where = "work";
  self.address = nullptr;
}

void sync_warp() {
  const Outside outside;
  if (left_out("sync_warp", __builtin_return_address(0))) return;
  constexpr auto nothing = [](auto&&...) {};
  const auto finish = [](Warp& /*warp*/, unsigned /*slot*/) {
    if (watcher != nullptr) watcher->warp_synchronized(engine().current->index / warp_size);
  };
  collective("sync_warp", __builtin_return_address(0), nothing, finish, nothing);
}

std::uint64_t exchange(std::uint64_t value, int from, const char* name) {
  const Outside outside;
  std::uint64_t result = 0;
  collective(
      name, __builtin_return_address(0),
      [&](Warp& warp, unsigned slot, std::size_t lane) { warp.exchange[slot][lane].in = value; },
      [](Warp&, unsigned) {},
      [&](Warp& warp, unsigned slot, std::size_t) { result = warp.exchange[slot][static_cast<std::size_t>(from)].in; });
  return result;
}

std::uint32_t vote(bool predicate, const char* name) {
  const Outside outside;
  std::uint32_t result = 0;
  collective(
      name, __builtin_return_address(0),
      [&](Warp& warp, unsigned slot, std::size_t lane) { warp.exchange[slot][lane].in = predicate ? 1 : 0; },
      [](Warp& warp, unsigned slot) {
        std::uint64_t bits = 0;
        for (std::size_t l = 0; l < warp_size; ++l) bits |= warp.exchange[slot][l].in << l;
        warp.exchange[slot][0].out = bits;
      },
      [&](Warp& warp, unsigned slot, std::size_t) { result = static_cast<std::uint32_t>(warp.exchange[slot][0].out); });
  return result;
}

void copy_async16(std::uint32_t to, const void* from, bool valid) {
  const Outside outside;
  Engine& e = engine();
  Thread& self = *e.current;
  const void* const caller = __builtin_return_address(0);
  unsigned char* const target = at_shared(to, 16, "copy_async16", caller);
  if (valid && reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
    fail("copy_async16: a global address that is no multiple of 16", caller);
  const auto* const source = valid ? static_cast<const unsigned char*>(from) : nullptr;
  if (valid) {  // a wrong address is found here, not where the copy lands
    static_cast<void>(*static_cast<const volatile unsigned char*>(source));
    static_cast<void>(*static_cast<const volatile unsigned char*>(source + 15));
  }
  if (watcher != nullptr) watcher->copy_begins(target, source, self.index, caller);
  self.copies.push_back({target, source, self.group, false});
  if ((e.random() & 1U) != 0) land(self.copies.back());
}

void commit_copies() { ++engine().current->group; }

void wait_copies(int groups) {
  const Outside outside;
  if (left_out("wait_copies", __builtin_return_address(0))) return;
  Thread& self = *engine().current;
  const std::uint64_t open = self.group;  // groups before open - groups have landed; what is not committed has not
  std::size_t landed = 0;
  for (; landed < self.copies.size() && self.copies[landed].group + static_cast<std::uint64_t>(groups) < open;
       ++landed) {
    land(self.copies[landed]);
    if (watcher != nullptr) watcher->copy_is_waited_for(self.copies[landed].to, self.index);
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<std::ptrdiff_t>(landed));
}

void load_matrix_x4(std::uint32_t (&r)[4], std::uint32_t address, bool transposed) {
  const Outside outside;
  const char* const name = transposed ? "load_matrix_x4_transposed" : "load_matrix_x4";
  const void* const caller = __builtin_return_address(0);
  const unsigned char* const own_row = at_shared(address, 16, name, caller);
  if (watcher != nullptr) watcher->matrix_row_is_loaded(own_row, engine().current->index, caller);
  collective(
      name, caller, [&](Warp& warp, unsigned slot, std::size_t lane) { warp.exchange[slot][lane].words[0] = address; },
      [&](Warp& warp, unsigned slot) {
        for (std::size_t m = 0; m < 4; ++m) {
          std::uint16_t matrix[8][8];
          for (std::size_t row = 0; row < 8; ++row) {
            const std::uint32_t at = warp.exchange[slot][m * 8 + row].words[0];
            std::memcpy(matrix[row], engine().shared.data() + (at - shared_base), 16);
          }
          for (std::size_t l = 0; l < warp_size; ++l) {
            const std::size_t g = l / 4;
            const std::size_t t = l % 4 * 2;
            const std::uint16_t lo = transposed ? matrix[t][g] : matrix[g][t];
            const std::uint16_t hi = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
            warp.matrices[slot][m][l] = lo | static_cast<std::uint32_t>(hi) << 16U;
          }
        }
      },
      [&](Warp& warp, unsigned slot, std::size_t lane) {
        for (std::size_t m = 0; m < 4; ++m) r[m] = warp.matrices[slot][m][lane];
      });
}

void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, Sixteen type) {
  const Outside outside;
  collective(
      type == Sixteen::bf16 ? "mma_m16n8k16 of bf16" : "mma_m16n8k16 of half", __builtin_return_address(0),
      [&](Warp& warp, unsigned slot, std::size_t lane) {
        auto& words = warp.exchange[slot][lane].words;
        for (int i = 0; i < 4; ++i) words[i] = a[i];
        words[4] = b0;
        words[5] = b1;
      },
      [&](Warp& warp, unsigned slot) { multiply(warp, slot, type); },
      [&](Warp& warp, unsigned slot, std::size_t lane) {
        for (std::size_t i = 0; i < 4; ++i) d[i] += warp.products[slot][i][lane];
      });
}

void before_atomic(void* p, std::size_t bytes) {
  const Outside outside;
  Engine& e = engine();
  if (e.random() % 4 == 0) leave(e);
  if (watcher != nullptr) watcher->atomic(p, bytes, e.current->index, __builtin_return_address(0));
}

}  // namespace emulator
