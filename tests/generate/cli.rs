//! The reference of the command line, from the arguments themselves.

use std::fmt::Write as _;

use super::NOTE;

/// What stands before the reference.
const INTRODUCTION: &str = "\
# The command line

The same program that is the operator runs on a folder, with no cluster at all: the same parser, the same plan, the
same engine. A developer tries scripts on a laptop with it, a pipeline checks them, and somebody on call looks into a
database and its ledger.

```
$ export DATABASE_URL=postgres://localhost/shop
$ belay new \"ticket escalation\"
migrations/003_ticket_escalation.sql
$ belay plan
shop is at 002; 1 script to apply, up to 003
  003  Ticket escalation  DBA Team  in a transaction  1 statement  rollback: yes  ALTER TABLE tickets: ACCESS EXCLUSIVE
$ belay apply
shop is at 002; 1 script to apply, up to 003
  003  Ticket escalation  DBA Team  applied, 4 ms
shop is at 003; 1 script applied
```

A plan names the strongest lock that each script takes of what is there, and the first statement after which data that was
there could be gone, or not be what it was (`destructive, line 7: DROP TABLE`). Both are told from the script's text.
[Concepts](concepts.md) has what that leaves out.

`plan`, `status` and `history` create nothing in the database and take no lock. `apply` and `repair --yes` take the
advisory lock that the operator takes, so the two never write at once. `apply` claims nothing: a ledger that an object of
a cluster keeps is left alone, unless `--despite-claim` is given. It holds nothing either, because a person asks each
time; a hold of the operator's is told, and
lifted when the scripts went in.

## Where the database is

By the variable `DATABASE_URL`, by `--database-url`, or by psql's own variables (`PGHOST`, `PGPORT`, `PGUSER`,
`PGDATABASE`, `PGPASSWORD`, `PGPASSFILE`, `PGSSLMODE`). Arguments can be read by others in the process list; prefer the
variables. Without an sslmode a person's connection uses TLS where the server has it (`prefer`), as psql does; add
`?sslmode=verify-full` for anything that is not on your own machine.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done, or nothing to do |
| 1 | refused or failed: the message says what to change. No script is half applied |
| 2 | wrong arguments |
| 3 | something is to be done, and was only shown: `plan --exit-code`, `status --exit-code`, `repair` without `--yes`, or when it leaves something |
| 4 | not now: the server, its advisory lock or a script's locks were not to be had in time. The same command may succeed later |
| 130 | interrupted by Ctrl-C or SIGTERM: cancelled on the server, and rolled back |

## Documents

With `-o json` or `-o yaml` a command prints one document on standard output, also when it fails; what people read goes to
standard error then. The names of its fields are those of a Migration's status, and do not change. A command that was
refused prints `failure`, with `reason` (see [the reasons](reasons.md)), `message` and, of a script, `script`, `line`,
`column`, `sqlState`, `statement`, `command` and `hint`.
";

/// The introduction, and every command's own help.
pub fn cli() -> String {
    let mut text = format!("{NOTE}\n\n{INTRODUCTION}");
    let mut command = belay::cli::arguments().term_width(100).color(clap::ColorChoice::Never);
    command.build();
    for subcommand in command.get_subcommands_mut() {
        if subcommand.is_hide_set() || subcommand.get_name() == "help" {
            continue;
        }
        // The exit codes stand above once; what this machine's environment holds is nobody's business.
        let mut shown = subcommand.clone().after_help("").mut_args(|argument| argument.hide_env_values(true));
        let help = shown.render_long_help().to_string();
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        let help = lines.join("\n");
        write!(text, "\n## belay {}\n\n```\n{}\n```\n", subcommand.get_name(), help.trim()).unwrap();
    }
    text
}
