// SPDX-License-Identifier: MIT
/// @file
/// @brief main() of every test: doctest's, except that a run in which no test case ran is a failure.
///
/// Tests of the GPU have STORYLM_TEST_GPU, and are skipped where there is none.
#define DOCTEST_CONFIG_IMPLEMENT
#include <iostream>

#include <doctest/doctest.h>

#if defined(STORYLM_TEST_GPU)
#include "cuda/gpu_gate.hpp"
#endif

namespace {

unsigned cases_run = 0;

/// Learns how many test cases ran; doctest itself calls an empty run a success.
struct CountCases : doctest::IReporter {
  explicit CountCases(const doctest::ContextOptions& /*options*/) {}
  void report_query(const doctest::QueryData& /*data*/) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& stats) override { cases_run = stats.numTestCasesPassingFilters; }
  void test_case_start(const doctest::TestCaseData& /*data*/) override {}
  void test_case_reenter(const doctest::TestCaseData& /*data*/) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& /*stats*/) override {}
  void test_case_exception(const doctest::TestCaseException& /*exception*/) override {}
  void subcase_start(const doctest::SubcaseSignature& /*signature*/) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& /*data*/) override {}
  void log_message(const doctest::MessageData& /*data*/) override {}
  void test_case_skipped(const doctest::TestCaseData& /*data*/) override {}
};
REGISTER_LISTENER("count_cases", 1, CountCases);

}  // namespace

int main(int argc, char** argv) {
#if defined(STORYLM_TEST_GPU)
  if (const int code = storylm::test::gpu_gate(); code != 0) return code;
#endif
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit()) return result;  // --list-test-cases and the like
  if (cases_run == 0) {
    std::cerr << "no test case ran\n";
    return 1;
  }
  return result;
}
