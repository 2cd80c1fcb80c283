//! How far a long statement is, as far as the server tells: pg_stat_progress_*.

/// An expression that says in words how far the session of this pid is with what it runs: `building index: scanning table,
/// 43 %`. NULL where the server tells nothing.
pub(super) fn expression(pid: &str) -> String {
    let percent = |done: &str, total: &str| format!("', ' || (100 * p.{done} / nullif(p.{total}, 0)) || ' %'");
    let of = |view: &str, told: String| {
        format!("(SELECT {told} FROM pg_catalog.pg_stat_progress_{view} p WHERE p.pid = {pid} LIMIT 1)")
    };
    format!(
        "coalesce({}, {}, {}, {}, {})",
        of(
            "create_index",
            // Waiting for lockers and scanning count what they have, each in its own terms.
            format!(
                "p.phase || coalesce({}, {}, {}, '')",
                percent("lockers_done", "lockers_total"),
                percent("blocks_done", "blocks_total"),
                percent("tuples_done", "tuples_total")
            )
        ),
        of("vacuum", format!("p.phase || coalesce({}, '')", percent("heap_blks_scanned", "heap_blks_total"))),
        of("cluster", format!("p.phase || coalesce({}, '')", percent("heap_blks_scanned", "heap_blks_total"))),
        of("analyze", format!("p.phase || coalesce({}, '')", percent("sample_blks_scanned", "sample_blks_total"))),
        of("copy", "p.tuples_processed || ' rows'".to_owned()),
    )
}
