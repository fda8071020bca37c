#include "interp/circuits/skip_trigrams.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "ops/matmul/matmul.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

struct Entry {
  double value;
  int64_t index;
};

bool Before(const Entry& a, const Entry& b) {
  return std::tie(b.value, a.index) < std::tie(a.value, b.index);
}

bool Before(const SkipTrigram& a, const SkipTrigram& b) {
  const double x = a.score(), y = b.score();
  return std::tie(y, a.source, a.destination, a.out) < std::tie(x, b.source, b.destination, b.out);
}

// The largest positive values, largest first.
template <class T>
std::vector<Entry> Largest(const T* values, int64_t n, int64_t count) {
  std::vector<Entry> heap;  // its front is the last one kept
  for (int64_t i = 0; i < n; ++i) {
    const Entry entry{ToDouble(values[i]), i};
    if (!(entry.value > 0)) continue;
    if (static_cast<int64_t>(heap.size()) == count) {
      if (!Before(entry, heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end(), [](auto& a, auto& b) { return Before(a, b); });
      heap.pop_back();
    }
    heap.push_back(entry);
    std::push_heap(heap.begin(), heap.end(), [](auto& a, auto& b) { return Before(a, b); });
  }
  std::sort_heap(heap.begin(), heap.end(), [](auto& a, auto& b) { return Before(a, b); });
  return heap;
}

void Keep(std::vector<SkipTrigram>& best, int64_t count) {
  std::sort(best.begin(), best.end(), [](auto& a, auto& b) { return Before(a, b); });
  if (static_cast<int64_t>(best.size()) > count) best.resize(count);
}

}  // namespace

std::vector<SkipTrigram> TopSkipTrigrams(const HeadCircuits& circuits,
                                         const HeadCircuits::Head& head, int64_t count,
                                         int64_t at_once) {
  RESIDUAL_CHECK(count > 0) << count;
  const Vocabulary& vocabulary = circuits.vocabulary;
  const int64_t size = vocabulary.size(), rows = std::max<int64_t>(1, at_once / size);
  const double scale = 1 / std::sqrt(static_cast<double>(head.W_O.rows()));
  const Tensor destinations = vocabulary.Embed(head.W_Q * scale);  // [vocab, d_head]
  const Tensor sources = vocabulary.Embed(head.W_K), moved = vocabulary.Embed(head.W_V);
  const Tensor outs = vocabulary.Unembed(head.W_O);  // [d_head, vocab]
  MatMulOptions transpose_b;
  transpose_b.transpose_b = true;
  std::vector<SkipTrigram> best;
  for (int64_t first = 0; first < size; first += rows) {
    const int64_t last = std::min(first + rows, size);
    const Tensor QK = MatMul(sources.Rows(first, last), destinations, transpose_b);
    const Tensor OV = MatMul(moved.Rows(first, last), outs);
    std::vector<std::vector<SkipTrigram>> found(last - first);
    VisitDType(QK.dtype(), [&](auto tag) {
      using T = decltype(tag);
      ParallelFor(last - first, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const std::vector<Entry> looks = Largest(QK.data<T>() + i * size, size, count);
          const std::vector<Entry> raises = Largest(OV.data<T>() + i * size, size, count);
          // Products fall along both lists: the first (a + 1)(b + 1) are no smaller than entry
          // (a, b), which is among the best only if those are at most `count`.
          for (int64_t a = 0; a < static_cast<int64_t>(looks.size()); ++a) {
            for (int64_t b = 0;
                 b < static_cast<int64_t>(raises.size()) && (a + 1) * (b + 1) <= count; ++b) {
              found[i].push_back(
                  {first + i, looks[a].index, raises[b].index, looks[a].value, raises[b].value});
            }
          }
          Keep(found[i], count);
        }
      });
    });
    for (const std::vector<SkipTrigram>& some : found) {
      best.insert(best.end(), some.begin(), some.end());
    }
    Keep(best, count);
  }
  return best;
}

}  // namespace residual
