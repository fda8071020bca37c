// The page //tools:edges writes: a circuit, how faithful it is, and what random ones are.

#ifndef RESIDUAL_TOOLS_CIRCUIT_PAGE_CIRCUIT_PAGE_H_
#define RESIDUAL_TOOLS_CIRCUIT_PAGE_CIRCUIT_PAGE_H_

#include <string>
#include <vector>

#include "interp/graph/circuit.h"
#include "interp/graph/graph.h"
#include "interp/report/report.h"

namespace residual {

struct CircuitFindings {
  std::string model, method, metric;  // the model's folder
  double clean = 0, corrupted = 0;    // mean metric
  const EdgeGraph* graph = nullptr;
  std::vector<double> scores;  // [edge]
  std::vector<int> circuit;    // edges
  CircuitValue value;          // of the circuit
  std::vector<CircuitValue> curve;
  RandomCircuits random;
};

// CHECKs a graph, a score for each edge and a circuit of them.
Report CircuitPage(const CircuitFindings& found);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_CIRCUIT_PAGE_CIRCUIT_PAGE_H_
