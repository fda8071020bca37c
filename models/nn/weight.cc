#include "models/nn/weight.h"

#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"

namespace residual {

Tensor Weight::Dense() const {
  if (!stored()) return tensor_;
  const StoredMatrix& m = matrix_;
  Tensor values = m.quantized.defined() ? Dequantize(m.quantized, 0, m.quantized.rows()) : m.values;
  if (m.transposed) values = Transpose(values, 0, 1);
  Tensor part = values;
  if (m.parts > 1) {
    const int64_t in = values.dim(0), out = values.dim(1) / m.parts;
    const int64_t blocks = m.by_head ? m.shape[1] : 1;
    part = Slice(values.Reshaped({in, blocks, m.parts, out / blocks}), 2, m.part, m.part + 1);
  }
  return ConvertTo(part.Reshaped(m.shape), kF32);
}

Tensor LookUp(const Weight& table, const Tensor& ids) {
  if (!table.stored()) return Embedding(table.tensor(), ids);
  const StoredMatrix& m = table.matrix();
  RESIDUAL_CHECK(!m.transposed && m.parts == 1) << "rows of " << m.shape;
  if (m.quantized.defined()) return DequantizeRows(m.quantized, ids);
  return Cast(Embedding(m.values, ids), kF32);
}

}  // namespace residual
