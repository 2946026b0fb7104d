// SPDX-License-Identifier: MIT
/// @file
/// @brief Work on a stream by several threads, whose results come out in the order in which the stream went in.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace storylm::detail {

/// Takes units through source, work and sink. Source and sink run on one thread at a time and in order, work on all
/// threads: each does whatever can be done next, so that no core waits for a thread of a certain kind. Units are
/// reused, and no more of them exist than `2 * threads + 1`; while the waiting ones hold more than `max_bytes`, none is
/// read.
///
/// What is thrown comes out of run() as it would with one thread: the first failure in the order of the stream, after
/// the sink has had everything before it.
template <class Unit>
class OrderedPipeline {
 public:
  /// @param threads the calling one among them; at least 1
  /// @param max_bytes what units may hold together, as `Unit::bytes()` has it, when there is more than one
  explicit OrderedPipeline(int threads, std::size_t max_bytes = std::size_t{1} << 28U)
      : threads_(static_cast<std::size_t>(std::max(threads, 1))), max_bytes_(max_bytes) {}

  /// @param source `bool (Unit&)` fills a unit; false at the end
  /// @param work `void (Unit&, std::size_t thread)`, where thread is in [0, threads)
  /// @param sink `bool (Unit&)`; false when enough has come out
  template <class Source, class Work, class Sink>
  void run(Source&& source, Work&& work, Sink&& sink) {
    if (threads_ == 1) {
      Unit unit;
      while (source(unit)) {
        work(unit, 0);
        if (!sink(unit)) break;
      }
      return;
    }
    slots_ = std::vector<Slot>(2 * threads_ + 1);
    in_ = out_ = held_ = 0;
    reading_ = sinking_ = ended_ = stopped_ = false;
    failure_ = nullptr;
    const auto loop = [&](std::size_t thread) { this->loop(thread, source, work, sink); };
    std::vector<std::thread> others;
    others.reserve(threads_ - 1);
    try {
      for (std::size_t i = 1; i < threads_; ++i) others.emplace_back(loop, i);
    } catch (const std::exception&) {  // no more threads to be had: fewer do the same
    }
    loop(0);
    for (std::thread& thread : others) thread.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct Slot {
    Unit unit;
    bool done = false;
    std::size_t bytes = 0;
    std::exception_ptr failure;
  };

  template <class Source, class Work, class Sink>
  void loop(std::size_t thread, Source& source, Work& work, Sink& sink) {
    std::unique_lock lock(mutex_);
    while (!stopped_ && !(ended_ && in_ == out_)) {
      if (!sinking_ && out_ != in_ && slot(out_).done) {
        sink_one(lock, sink);
      } else if (!reading_ && !ended_ && in_ - out_ < slots_.size() && (in_ == out_ || held_ < max_bytes_)) {
        if (Slot* const taken = read_one(lock, source)) work_on(*taken, thread, lock, work);
      } else {
        changed_.wait(lock);
      }
    }
    changed_.notify_all();
  }

  template <class Sink>
  void sink_one(std::unique_lock<std::mutex>& lock, Sink& sink) {
    Slot& next = slot(out_);
    sinking_ = true;
    bool more = !next.failure;
    if (more) {
      std::exception_ptr failure;
      lock.unlock();
      try {
        more = sink(next.unit);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
    } else {
      failure_ = next.failure;
    }
    sinking_ = false;
    stopped_ = !more || failure_;
    held_ -= next.bytes;
    ++out_;
    changed_.notify_all();
  }

  template <class Source>
  [[nodiscard]] Slot* read_one(std::unique_lock<std::mutex>& lock, Source& source) {
    Slot& next = slot(in_);
    reading_ = true;
    next.done = false;
    next.bytes = 0;
    bool more = false;
    lock.unlock();
    try {
      more = source(next.unit);
      if (more) next.bytes = next.unit.bytes();
    } catch (...) {
      next.failure = std::current_exception();
    }
    lock.lock();
    reading_ = false;
    ended_ = !more;
    next.done = next.failure != nullptr;
    held_ += next.bytes;
    in_ += more || next.failure ? 1 : 0;
    changed_.notify_all();
    return more ? &next : nullptr;
  }

  template <class Work>
  void work_on(Slot& taken, std::size_t thread, std::unique_lock<std::mutex>& lock, Work& work) {
    std::exception_ptr failure;
    lock.unlock();
    try {
      work(taken.unit, thread);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    taken.failure = failure;
    taken.done = true;
    changed_.notify_all();
  }

  [[nodiscard]] Slot& slot(std::size_t i) noexcept { return slots_[i % slots_.size()]; }

  std::size_t threads_;
  std::size_t max_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  std::size_t in_ = 0;    // units that went in
  std::size_t out_ = 0;   // units that came out
  std::size_t held_ = 0;  // bytes of those between
  bool reading_ = false;
  bool sinking_ = false;
  bool ended_ = false;    // the source is
  bool stopped_ = false;  // the sink has had enough, or something failed
  std::exception_ptr failure_;
};

}  // namespace storylm::detail
