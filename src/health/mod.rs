//! Health checks: after scripts are applied, does what uses the database still work?
//!
//! One file a kind of check. A check is tried every `interval` until it passes or its `timeout` ends; what it saw last
//! is what the status says. Whether checks are due, and what follows from their verdict, is decided in
//! [`crate::controller`].

mod http;
mod job;
mod sql;
mod workload;

use std::time::Duration;

use kube::Client;
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::HealthCheck;
use crate::postgres::{Engine, PostgresError};

/// How long a check is tried, unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long between two tries, unless the check says otherwise.
const INTERVAL: Duration = Duration::from_secs(2);
/// The least time between two tries, whatever the check says.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// How the checks ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// It did not pass within its timeout.
    Failed {
        check: String,
        saw: String,
    },
    /// It may not, or cannot, be run at all.
    Refused {
        check: String,
        why: String,
    },
}

/// What one try of a check saw.
enum Seen {
    Passed,
    NotYet(String),
    /// It will not pass, however often it is tried.
    Failed(String),
    Refused(String),
}

/// What checks may do, by the operator's settings.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Hosts outside of the namespace that HTTP checks may reach.
    pub allowed_hosts: Vec<String>,
}

/// Where the checks run, and for whom.
pub struct Setting<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
    pub migration: &'a str,
    pub uid: &'a str,
    pub run: Uuid,
    pub policy: &'a Policy,
}

/// Tries the checks in order, each until it passes or its timeout ends. `began` is told each check's name.
///
/// # Errors
/// When the connection to the database is lost.
pub async fn check_all(
    checks: &[HealthCheck],
    setting: &Setting<'_>,
    engine: &mut Engine,
    began: &(dyn Fn(&str) + Sync),
) -> Result<Verdict, PostgresError> {
    for check in checks {
        began(&check.name);
        match until_timeout(check, setting, engine).await? {
            Verdict::Passed => tracing::info!(check = check.name, "health check passed"),
            verdict => return Ok(verdict),
        }
    }
    Ok(Verdict::Passed)
}

async fn until_timeout(
    check: &HealthCheck,
    setting: &Setting<'_>,
    engine: &mut Engine,
) -> Result<Verdict, PostgresError> {
    let timeout = check.timeout.map_or(TIMEOUT, |timeout| timeout.get());
    let interval = check.interval.map_or(INTERVAL, |interval| interval.get()).max(MIN_INTERVAL);
    let deadline = Instant::now() + timeout;
    let name = || check.name.clone();
    let mut job = check.job.as_ref().map(|spec| job::Run::new(spec, check, timeout, setting));
    let mut last = format!("it gave no answer within {timeout:?}");
    loop {
        let seen = match &check.sql {
            Some(sql) => sql::check(sql, engine, deadline.saturating_duration_since(Instant::now())).await?,
            None => tokio::time::timeout_at(deadline, one(check, setting, &mut job))
                .await
                .unwrap_or_else(|_| Seen::Failed(last.clone())),
        };
        let verdict = match seen {
            Seen::Passed => Some(Verdict::Passed),
            Seen::Failed(saw) => Some(Verdict::Failed { check: name(), saw }),
            Seen::Refused(why) => Some(Verdict::Refused { check: name(), why }),
            Seen::NotYet(saw) => {
                tracing::debug!(check = check.name, saw, "health check not passed yet");
                last = saw;
                None
            }
        };
        let verdict = match verdict {
            None if Instant::now() + interval > deadline => Some(Verdict::Failed { check: name(), saw: last.clone() }),
            verdict => verdict,
        };
        if let Some(verdict) = verdict {
            if let Some(job) = job {
                job.end().await;
            }
            return Ok(verdict);
        }
        tokio::time::sleep(interval).await;
    }
}

/// One try of a check that needs no connection to the database.
async fn one(check: &HealthCheck, setting: &Setting<'_>, job: &mut Option<job::Run>) -> Seen {
    match (&check.http, &check.workload, job) {
        (Some(http), ..) => http::check(http, setting).await,
        (_, Some(workload), _) => workload::check(workload, setting).await,
        (_, _, Some(job)) => job.check().await,
        _ => Seen::Refused("it names no sql, http, workload or job".to_owned()),
    }
}
