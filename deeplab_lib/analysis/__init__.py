"""From the files of runs to what the report says: tables, intervals, claims, audit, prose, figures."""
