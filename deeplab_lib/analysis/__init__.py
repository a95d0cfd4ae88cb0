"""From the files of runs to what the report says: tables, intervals, claims, audit, prose, figures."""

from deeplab_lib.analysis.captions import against_ce
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.findings import Findings
from deeplab_lib.analysis.gallery import Gallery, drawn_runs, newest, warn
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.settings import check_settings

__all__ = ["Evidence", "Findings", "Gallery", "Numbers", "against_ce", "check_settings", "drawn_runs", "newest", "warn"]
