//! The same scripts by Belay and by psql, in turns.

use std::time::Duration;

use crate::history::{self, Files};
use crate::peer::{Folder, on_fresh, time};
use crate::sample::{self, Sample};
use crate::support::memory;
use crate::support::postgres::Postgres;

/// No run takes so long.
const LIMIT: Duration = Duration::from_secs(600);

/// `ratio` is the median of the pairs' own; beside it that of the fastest run of each, which what else the machine does
/// disturbed the least.
pub const HEAD: &str = "| s, median | `belay apply` | one psql | ratio | from | to | of the fastest | aim | psql a file | memory |\n\
    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";

/// A folder of scripts to be applied to fresh databases.
pub struct Case {
    pub what: &'static str,
    pub files: Files,
    pub pairs: usize,
    /// Whether a psql for each file is tried too, once a pair.
    pub per_file: bool,
    /// The ratio of a pair that is aimed at.
    pub aim: f64,
}

impl Case {
    /// A row of the table.
    pub async fn measure(&self, server: &Postgres) -> String {
        let folder = Folder::new(&self.files);
        // The first of each is not counted; it shows whether Belay takes the scripts at all.
        if !on_fresh(server, async |database| folder.belay(database).status().expect("belay starts").success()).await {
            return format!("| {} | refused | | | | | | {:.2} | | |\n", self.what, self.aim);
        }
        on_fresh(server, async |database| time(&mut folder.psql(database))).await;
        let (mut ours, mut theirs, mut each) = (Sample::default(), Sample::default(), Sample::default());
        let mut ratios = Vec::new();
        for pair in 0..self.pairs {
            let belay = async || on_fresh(server, async |database| time(&mut folder.belay(database))).await;
            let psql = async || on_fresh(server, async |database| time(&mut folder.psql(database))).await;
            // Who comes first changes from pair to pair.
            let (a, b) = if pair % 2 == 0 {
                let a = belay().await;
                (a, psql().await)
            } else {
                let b = psql().await;
                (belay().await, b)
            };
            ours.add(a);
            theirs.add(b);
            ratios.push(a.as_secs_f64() / b.as_secs_f64());
            if self.per_file {
                each.add(on_fresh(server, async |database| folder.psql_per_file(database)).await);
            }
        }
        let memory = on_fresh(server, async |database| memory::most_of(&mut folder.belay(database), LIMIT)).await;
        ratios.sort_by(f64::total_cmp);
        let ratio = |at: usize| ratios.get(at).copied().unwrap_or_default();
        format!(
            "| {} | {} | {} | **{:.2}** | {:.2} | {:.2} | {:.2} | {:.2} | {} | {:.0} MiB |\n",
            self.what,
            seconds(ours.median()),
            seconds(theirs.median()),
            ratio(ratios.len() / 2),
            ratio(0),
            ratio(ratios.len().saturating_sub(1)),
            ours.least().as_secs_f64() / theirs.least().as_secs_f64(),
            self.aim,
            if self.per_file { seconds(each.median()) } else { String::new() },
            memory as f64 / 1024.0,
        )
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

/// A run that finds everything applied.
pub async fn nothing_to_do(server: &Postgres, scripts: usize) -> String {
    let folder = Folder::new(&history::many(scripts, 1));
    on_fresh(server, async |database| {
        time(&mut folder.belay(database));
        let mut took = Sample::default();
        for _ in 0..11 {
            took.add(time(&mut folder.belay(database)));
        }
        let memory = memory::most_of(&mut folder.belay(database), LIMIT) as f64 / 1024.0;
        format!(
            "{}{}\nThe whole process, with its start, the connection, the lock, reading folder and ledger, and the plan; at most {memory:.0} MiB \
             resident. Aimed at: under 100 ms, and under 50 MiB.\n",
            sample::HEAD,
            took.row(&format!("`belay apply`, {scripts} scripts, all applied before")),
        )
    })
    .await
}
