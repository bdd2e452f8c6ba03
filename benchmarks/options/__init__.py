"""What may be typed after each command, a dataclass each.

The first line of a command's docstring is its help. A new flag is a deliberate edit in
``tests/benchmarks/commands/command_line.txt`` too.
"""

from collections.abc import Mapping

from benchmarks.options.bases import (
    Anonymous,
    CommandOptions,
    InFolder,
    WithData,
    WithPlugins,
)
from benchmarks.options.networks import (
    CheckOptions,
    DoctorOptions,
    ExportOptions,
    ListOptions,
)
from benchmarks.options.results import (
    BundleOptions,
    CompareOptions,
    LeaderboardOptions,
    MergeOptions,
    PredictOptions,
    ScoreOptions,
    VerifyOptions,
)
from benchmarks.options.runs import (
    CancelOptions,
    ClusterOptions,
    FollowOptions,
    HowToPlan,
    HowToRun,
    LogsOptions,
    PretrainOptions,
    RecoverOptions,
    RetryOptions,
    RunOptions,
    StatusOptions,
    WatchOptions,
)

__all__ = [
    "ALIASES",
    "COMMANDS",
    "Anonymous",
    "BundleOptions",
    "CancelOptions",
    "CheckOptions",
    "ClusterOptions",
    "CommandOptions",
    "CompareOptions",
    "DoctorOptions",
    "ExportOptions",
    "FollowOptions",
    "HowToPlan",
    "HowToRun",
    "InFolder",
    "LeaderboardOptions",
    "ListOptions",
    "LogsOptions",
    "MergeOptions",
    "PredictOptions",
    "PretrainOptions",
    "RecoverOptions",
    "RetryOptions",
    "RunOptions",
    "ScoreOptions",
    "StatusOptions",
    "VerifyOptions",
    "WatchOptions",
    "WithData",
    "WithPlugins",
]

COMMANDS: Mapping[str, type[CommandOptions]] = {
    "run": RunOptions,
    "pretrain": PretrainOptions,
    "follow": FollowOptions,
    "export": ExportOptions,
    "list": ListOptions,
    "check": CheckOptions,
    "doctor": DoctorOptions,
    "score": ScoreOptions,
    "predict": PredictOptions,
    "compare": CompareOptions,
    "leaderboard": LeaderboardOptions,
    "verify": VerifyOptions,
    "bundle": BundleOptions,
    "merge": MergeOptions,
    "status": StatusOptions,
    "watch": WatchOptions,
    "logs": LogsOptions,
    "cancel": CancelOptions,
    "retry": RetryOptions,
    "recover": RecoverOptions,
    "cluster": ClusterOptions,
}

# Former names of commands, which still work.
ALIASES: Mapping[str, str] = {"adopt": "recover"}
