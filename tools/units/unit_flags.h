// Long work in units, for tools: by all processes that mpirun started, and with --journal over
// several lives of the tool.
//
//   UnitFlags units(cli, processes);
//   ...
//   RESIDUAL_ASSIGN_OR_RETURN(const UnitCounts counts, units.Run(work));

#ifndef RESIDUAL_TOOLS_UNITS_UNIT_FLAGS_H_
#define RESIDUAL_TOOLS_UNITS_UNIT_FLAGS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/zoo/zoo.h"
#include "tensor/journal/journal.h"
#include "tools/cli/command_line.h"
#include "tools/processes/processes.h"

namespace residual {

// Items 0 .. n - 1 (cells, edges), each of which gives a few numbers.
struct ItemUnits {
  // Everything on which the numbers depend; the division is added.
  Journal::Subject subject;
  // The items of each unit, the longest units first. What a unit gives depends on it alone.
  std::vector<std::vector<int64_t>> units;
  int64_t numbers = 1;  // of each item
  // values[i][number] of the unit's i-th item. Calls Processes::Poll now and then.
  std::function<absl::StatusOr<std::vector<std::vector<double>>>(const std::vector<int64_t>& unit)>
      run;
  // On process 0, once for each item that is in a unit.
  std::function<void(int64_t item, std::vector<double> values)> take;
};

struct UnitCounts {
  int64_t all = 0, found = 0;  // found: done before, by the journal
};

class UnitFlags {
 public:
  // Declares --journal on `cli`; both outlive this.
  UnitFlags(CommandLine& cli, Processes& processes);

  // Whether work is divided: there is a journal, or several processes.
  bool given() const { return !journal_.empty() || processes_.count() > 1; }

  // The fields by which the model is known, as it is now; empty unless given().
  Journal::Subject ModelSubject(const LoadedModel& loaded) const;

  // Does what the journal does not have. On every process; process 0 has all values then.
  absl::StatusOr<UnitCounts> Run(ItemUnits work) const;

 private:
  Processes& processes_;
  std::string journal_;
};

// What a text is known by in a subject: itself, or its beginning and checksum.
std::string Digest(absl::string_view text);
// The same of a tensor: dtype, shape, checksum; "none" of an undefined one.
std::string Digest(const Tensor& x);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_UNITS_UNIT_FLAGS_H_
