"""Reports: tables, figures, and one self-contained HTML page. Nothing here runs a model."""
