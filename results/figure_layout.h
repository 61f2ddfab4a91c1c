/* figure_layout.h - ranges, tics, texts and pixel positions of a figure whose panels and series are known. */
#ifndef KV_FIGURE_LAYOUT_H
#define KV_FIGURE_LAYOUT_H

#include "results/figure.h"

void kv_figure_lay_out(kv_figure *f);

#endif
