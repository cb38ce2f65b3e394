"""The report: tables and figures of finished runs on one page."""
