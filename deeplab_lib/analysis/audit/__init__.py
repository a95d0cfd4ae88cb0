"""The published study held against itself, against its own logs and against what can be computed.

Nothing is asserted from memory: parameters and multiply-adds are counted on the network here (the latter with the costs
of the runs, where these were measured), means are taken of the printed values, and the shifted rows of the table of
initial configurations are matched to the runs' names by a rule. What the study's logs settle is computed from the logs
where these are given, and otherwise stated; every point names its source.
"""

import pandas as pd

from deeplab_lib.analysis.audit import changes, network, outcomes, printed, schedules
from deeplab_lib.analysis.audit.finding import AuditFinding, details
from deeplab_lib.analysis.audit.network import freezing_table
from deeplab_lib.analysis.audit.printed import matched_rows, means_table
from deeplab_lib.analysis.audit.study_logs import UNREPORTED_TITLE, StudyLogs, left_out, log_table, read_logs

__all__ = [
    "UNREPORTED_TITLE",
    "AuditFinding",
    "StudyLogs",
    "audit",
    "details",
    "freezing_table",
    "left_out",
    "log_table",
    "matched_rows",
    "means_table",
    "read_logs",
]


def audit(logs: StudyLogs | None = None, efficiency: pd.DataFrame | None = None) -> list[AuditFinding]:
    """All findings, in the order in which the report gives them.

    logs: the study's; None: as this kit states them. efficiency: the costs measured beside the runs.
    """
    logs = logs or StudyLogs()
    return [
        printed.shifted_rows(),
        schedules.learning_rates(logs),
        changes.trainable_parameters(logs),
        schedules.powers(logs),
        schedules.power_of_run_7(logs),
        changes.loss_change(logs),
        changes.loss_weights(logs),
        outcomes.two_columns_of_miou(logs),
        printed.best_loss(),
        outcomes.order_by_rate(logs),
        outcomes.latencies(logs),
        printed.other_architectures(),
        printed.loss_grid_and_rates(),
        printed.conventions_of_code(logs),
        schedules.steps_per_epoch(logs),
        network.computational_cost(efficiency),
    ]
