"""The report to look at: one HTML page, and the same tables for Markdown and LaTeX."""

from svp_jax.metrics.report.page import write_page
from svp_jax.metrics.report.tables import latex, left_out, markdown

__all__ = ["latex", "left_out", "markdown", "write_page"]
