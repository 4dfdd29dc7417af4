//! The figures that the journal on disk tells of itself.

use heliograph_core::stats::{Count, MeanTime, StatSeries, Stats};

/// The figures of the journal, as `internal_journal`.
#[derive(Clone, Default)]
pub struct JournalStats {
    /// Bytes of all files.
    pub bytes: Count,
    /// Files.
    pub segments: Count,
    /// Metrics appended.
    pub appended: Count,
    /// Metrics that are safe on the disk.
    pub synced: Count,
    /// Commits.
    pub commits: Count,
    /// Time of a commit.
    pub commit_time: MeanTime,
    /// Failures of the disk.
    pub errors: Count,
    /// Metrics that went before an output was done with them, counted once for each such output.
    pub lost: Count,
    /// Bytes of segments that went so, and of writes that were cut off.
    pub lost_bytes: Count,
    /// 1 while metrics wait in memory only, since the disk fails.
    pub in_memory: Count,
}

impl JournalStats {
    /// Those of the registry.
    pub fn new(stats: &Stats) -> Self {
        let series = StatSeries::new("journal", &[]);
        let count = |field| stats.count(&series, field);
        Self {
            bytes: count("bytes"),
            segments: count("segments"),
            appended: count("metrics_appended"),
            synced: count("metrics_synced"),
            commits: count("commits"),
            commit_time: stats.mean_time(&series, "commit_time_ns"),
            errors: count("errors"),
            lost: count("metrics_lost"),
            lost_bytes: count("bytes_lost"),
            in_memory: count("in_memory"),
        }
    }
}
