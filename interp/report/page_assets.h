// What every page of a report carries inside, as it stands in page.css, page.js and Vega's bundle.

#ifndef RESIDUAL_INTERP_REPORT_PAGE_ASSETS_H_
#define RESIDUAL_INTERP_REPORT_PAGE_ASSETS_H_

#include "absl/strings/string_view.h"

namespace residual {

absl::string_view PageCss();
absl::string_view PageScript();
absl::string_view VegaBundle();

}  // namespace residual

#endif  // RESIDUAL_INTERP_REPORT_PAGE_ASSETS_H_
