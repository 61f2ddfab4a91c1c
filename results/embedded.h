/* embedded.h - the text files that are compiled in (embed.cmake); the symbol is the path below results/. */
#ifndef KV_EMBEDDED_H
#define KV_EMBEDDED_H

extern const char kv_embedded_schema_sql[];
extern const char kv_embedded_migrate_2_sql[];
extern const char kv_embedded_views_sql[];
extern const char kv_embedded_queries_answers_sql[];
extern const char kv_embedded_queries_cells_sql[];
extern const char kv_embedded_queries_dump_sql[];
extern const char kv_embedded_queries_scores_sql[];
extern const char kv_embedded_queries_paper_sql[];
extern const char kv_embedded_queries_export_cells_sql[];
extern const char kv_embedded_queries_export_samples_sql[];
extern const char kv_embedded_plots_style_gp[];
extern const char kv_embedded_html_css[];

#endif
