//! What the status says: three sentences. What happened and where; what state the data is in; what to do next.

use super::observe::Observed;
use super::view::{About, Activity, Doing, Inspection, Place, View};
use crate::api::{BackupWhen, Failure, PostgresBackup, Reason, Verified, conditions};
use crate::backup::is_taken;
use crate::plan::Plan;
use crate::postgres::Identity;
use crate::script::Mode;

/// The version where the database is, in words.
fn at(version: Option<&str>) -> String {
    version.map_or_else(|| "before its first script".to_owned(), |version| format!("at {version}"))
}

/// The same, and the scripts of which a part is applied.
fn here(o: &Observed) -> String {
    let here = at(o.version());
    match &begun(o)[..] {
        [] => here,
        begun => format!("{here} (begun: {})", begun.join("; ")),
    }
}

/// How far the scripts are that are run statement by statement, and are not applied as a whole yet.
fn begun(o: &Observed) -> Vec<String> {
    let inspection = o.run.as_ref().and_then(|run| run.inspection.as_ref());
    inspection.into_iter().flat_map(|read| &read.ledger.begun).map(ToString::to_string).collect()
}

fn scripts(count: usize) -> String {
    if count == 1 { "1 script".to_owned() } else { format!("{count} scripts") }
}

/// Where the scripts are to be corrected.
fn source_of(o: &Observed) -> String {
    match &o.config_maps[..] {
        [] => format!("spec.source.inline of Migration {}", o.name),
        [one] => format!("ConfigMap {one}"),
        several => format!("ConfigMaps {}", several.join(", ")),
    }
}

pub fn planning(o: &Observed) -> String {
    format!("Reading the server and the ledger of PostgresDatabase {}.", o.database_name)
}

pub fn waiting(server: &str) -> String {
    format!("Other databases of the server {server} are being read or migrated: this one waits for its turn.")
}

/// What is left behind by what keeps a run from going on.
pub fn left(o: &Observed) -> String {
    let wrote = o.run.as_ref().is_some_and(|run| run.wrote);
    let nowhere = o.version().is_none() && begun(o).is_empty();
    match (wrote, nowhere) {
        (true, _) => format!("{}.", place(o)),
        (false, true) => match o.status.history.first().filter(|last| last.outcome != Reason::Succeeded.as_str()) {
            Some(last) => {
                format!("Nothing was run since the run that ended at {}: {}.", last.completed_at, last.outcome)
            }
            None => "Nothing was run.".to_owned(),
        },
        (false, false) => format!("Nothing was run: the database is {}.", here(o)),
    }
}

/// Where the database is; or that nobody knows, behind a run that was cut off.
fn place(o: &Observed) -> String {
    match &o.run {
        Some(run) if run.wrote && run.inspection.is_none() => {
            let before = o.status.run.as_ref().map_or(o.version(), |told| told.from.as_deref());
            format!("What the run has applied could not be read back; before it the database was {}", at(before))
        }
        _ => format!("The database is {}{}", here(o), kept_in(o)),
    }
}

pub fn rival(o: &Observed, rival: &str) -> String {
    format!(
        "Migration {rival} already migrates PostgresDatabase {}, and is older. Delete one of the two, or give this one a \
         PostgresDatabase with another historySchema",
        o.database_name
    )
}

pub fn claimed(claimant: &str) -> String {
    format!(
        "the ledger belongs to {claimant} (cluster/namespace/name). If that one is gone, run belay repair --release-claim \
         --yes; otherwise use another historySchema"
    )
}

pub fn suspended(o: &Observed, plan: &Plan) -> String {
    format!(
        "{} to apply, up to {}. Nothing is done while spec.suspend is true: the database is {}. Read status.plan, then set \
         spec.suspend to false.",
        scripts(plan.pending.len()),
        plan.to,
        here(o)
    )
}

pub fn lock_held(inspection: &Inspection) -> String {
    let holder = inspection.holder.as_deref().unwrap_or("a session that is just ending");
    format!(
        "The advisory lock of this PostgreSQL database is held by {holder}. Belay goes on by itself when it is free."
    )
}

pub fn backup_starts(name: &str) -> String {
    format!("PostgresBackup {name} is being taken. No script has run yet.")
}

pub fn backing_up(backup: &PostgresBackup) -> String {
    let name = backup.metadata.name.as_deref().unwrap_or_default();
    match backup_message(backup) {
        Some(message) => format!("PostgresBackup {name} is being taken: {message}"),
        None => backup_starts(name),
    }
}

pub fn backup_failed(o: &Observed, backup: &PostgresBackup) -> String {
    let name = backup.metadata.name.as_deref().unwrap_or_default();
    format!(
        "PostgresBackup {name} failed: {} No script was run: the database is {}. Mend the cause, then annotate the Migration: \
         belay.dev/requestedAt=$(date -uIs).",
        backup_message(backup).unwrap_or("the Job gave no reason."),
        here(o)
    )
}

pub fn backup_refused(o: &Observed, name: &str, why: &str) -> String {
    format!(
        "PostgresBackup {name} cannot be made: {}. No script was run: the database is {}. Let the operator's ServiceAccount create it, \
         then annotate the Migration: belay.dev/requestedAt=$(date -uIs).",
        conditions::truncate(why.trim_end_matches('.'), 500),
        here(o)
    )
}

/// What is known of the backup below a run.
pub fn backed_up(o: &Observed, name: &str) -> String {
    let backup = o.backups.iter().find(|backup| backup.metadata.name.as_deref() == Some(name));
    match backup.and_then(|backup| backup.status.as_ref()?.verified) {
        Some(Verified::Read) => format!("PostgresBackup {name} was read back: it is verified."),
        Some(Verified::None) => {
            format!("PostgresBackup {name} was taken by the team's own Job, which succeeded. Belay did not read it.")
        }
        None => format!("PostgresBackup {name} is below the run."),
    }
}

fn backup_message(backup: &PostgresBackup) -> Option<&str> {
    let told = backup.status.as_ref()?.conditions.iter().find(|condition| condition.status == "True")?;
    Some(told.message.as_str()).filter(|message| !message.is_empty())
}

pub fn backup_not_configured(o: &Observed, plan: &Plan) -> String {
    format!(
        "{} to apply, and a backup is asked for, but PostgresDatabase {} has no spec.backup.method. No script was run: the \
         database is {}. Set the method, or spec.backup.when to Never.",
        scripts(plan.pending.len()),
        o.database_name,
        here(o)
    )
}

/// Why no backup is below a run.
pub fn not_asked(o: &Observed) -> &'static str {
    match o.backup_when() {
        BackupWhen::BeforeDestructive => {
            "A backup is asked for before destructive scripts only, and no statement of this plan is destructive."
        }
        BackupWhen::Never | BackupWhen::Always => "The policy asks for no backup.",
    }
}

pub fn apply_starts(o: &Observed, plan: &Plan, below: Option<&str>) -> String {
    let first = plan.pending.first().or(plan.baseline.last()).map_or("", |script| script.file_name.as_str());
    let backup = below.map_or_else(|| not_asked(o).to_owned(), |name| format!("Backup {name} is below it."));
    format!("Applying {}, up to {}, from {first} on. {backup}", scripts(plan.pending.len()), plan.to)
}

pub fn applying(o: &Observed, run: &View, place: &Place) -> String {
    let backup = run.below.as_ref().map_or_else(String::new, |name| format!(" Backup {name} is below it."));
    let attempt = if place.attempt > 1 { format!(", try {}", place.attempt) } else { String::new() };
    let waits = place.waiting_on.first().map_or_else(String::new, |blocker| {
        let held = if blocker.relations.is_empty() { "a lock".to_owned() } else { blocker.relations.join(", ") };
        let missing = blocker.missing.as_ref().map_or_else(String::new, |missing| format!(" Belay's login lacks: {missing}"));
        let who = match &blocker.gid {
            Some(gid) => format!("the prepared transaction {gid:?} (user {}), which holds {held}; ROLLBACK PREPARED or COMMIT PREPARED ends it", blocker.user),
            None if blocker.command.as_deref().is_some_and(|command| command.starts_with("autovacuum")) => {
                format!("{} (pid {}), which holds {held}", blocker.command.as_deref().unwrap_or_default(), blocker.pid)
            }
            None => format!(
                "the session with pid {0} ({1}, user {2}), which holds {held}; pg_terminate_backend({0}) would end it",
                blocker.pid, blocker.application, blocker.user
            ),
        };
        format!(" It waits for {who}.{missing}")
    });
    let progress = place.progress.as_ref().map_or_else(String::new, |progress| format!(": {progress}"));
    format!(
        "{}, statement {} of {}, line {}{attempt}{progress}.{waits} The last version in the ledger when the run began: {}.{backup}",
        place.script,
        place.statement,
        place.statements,
        place.line,
        o.version().unwrap_or("none")
    )
}

pub fn checking(o: &Observed, check: &str) -> String {
    let check = if check.is_empty() { "The health checks are".to_owned() } else { format!("Health check {check} is") };
    format!("{check} being tried. The scripts are applied: the database is {}.", here(o))
}

pub fn succeeded(o: &Observed, plan: &Plan) -> String {
    let health = if o.has_health_checks { ", and every health check passed" } else { "" };
    format!("The database is at {}{health}.", plan.to)
}

pub fn unhealthy(plan: &Plan, check: &str, saw: &str) -> String {
    format!(
        "Health check {check} did not pass: {saw}. The scripts are applied: the database is at {}. The check is tried again, \
         and Belay goes on by itself when it passes.",
        plan.to
    )
}

pub fn check_refused(plan: &Plan, check: &str, why: &str) -> String {
    format!(
        "Health check {check} may not be run: {why}. The scripts are applied: the database is at {}. Correct the check.",
        plan.to
    )
}

pub fn cancelled(o: &Observed, run: &View) -> String {
    let why = if o.deleting { "the Migration is being deleted" } else { "spec.suspend was set" };
    let left = match &run.activity {
        Activity::Busy(Doing::Applying(place)) => {
            let apart = |about: &About| {
                about
                    .history
                    .scripts()
                    .any(|script| script.file_name == place.script && script.mode == Mode::NoTransaction)
            };
            match run.about.as_deref().is_some_and(apart) {
                true => format!(
                    " The statement of {} in progress is stopped; those that are done stay, and are not run again.",
                    place.script
                ),
                false => " The script in progress is rolled back.".to_owned(),
            }
        }
        _ => String::new(),
    };
    format!("The run is being cancelled: {why}.{left}")
}

/// What went wrong and where, as the engine has it; what state the data is in; what to do.
pub fn failed(o: &Observed, failure: &Failure) -> String {
    format!("{}. {}. {}", failure.message.trim_end_matches('.'), place(o), next(o, failure))
}

/// The backup that holds the present version of this very database, where there is one.
fn kept_in(o: &Observed) -> String {
    let identity = o.run.as_ref().and_then(|run| run.inspection.as_ref()).map(|read| &read.identity);
    let backup = o.backups.iter().filter_map(|backup| {
        let status = backup.status.as_ref().filter(|status| is_taken(status))?;
        let of_it = |is: &Identity| {
            status.system_identifier == is.system_identifier && status.database_oid == Some(is.database_oid)
        };
        let at = status.snapshot_at.as_deref().filter(|_| status.ledger_version.as_deref() == o.version())?;
        identity.is_none_or(of_it).then_some((at, backup.metadata.name.as_deref()?))
    });
    backup.max().map_or_else(String::new, |(at, name)| {
        // To the second: it is read on a phone.
        let at = at.parse().map_or_else(|_| at.to_owned(), |at: jiff::Timestamp| at.strftime("%F %TZ").to_string());
        match begun(o).is_empty() {
            true => format!(", which backup {name} holds as of {at}"),
            // With or without what is begun.
            false => format!("; backup {name} is of {at}"),
        }
    })
}

fn next(o: &Observed, failure: &Failure) -> String {
    match failure.reason.parse() {
        Ok(Reason::ScriptFailed) if failure.sql_state.as_deref() == Some("42501") => format!(
            "Grant the role that right, and set belay.dev/requestedAt to try again; or correct the script in {}, and Belay goes on by itself.",
            source_of(o)
        ),
        Ok(Reason::ScriptFailed) => format!("Correct the script in {}, and Belay goes on by itself.", source_of(o)),
        Ok(reason) => Reason::next_step(reason).to_owned(),
        Err(()) => String::new(),
    }
}
