//! What people and Jobs type: one file a subcommand, one engine behind them all.
//!
//! A command reads its arguments, asks the other rooms, and prints. What a plan is and how a script is run is not
//! decided here: [`crate::plan`] and [`crate::postgres`] do that for the operator and for a laptop alike.

mod apply;
pub mod backup;
mod changes;
mod controller;
pub mod crds;
mod digest;
mod environment;
mod error;
mod excerpt;
mod exit;
mod history;
mod interrupt;
mod new;
mod numbering;
mod output;
mod plan;
mod progress;
mod repair;
mod session;
mod source;
mod status;
mod summary;
mod target;
pub mod yaml;

use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use self::error::{CliError, FailureDocument};
use self::exit::Exit;
use self::output::Format;
use crate::telemetry::{self, Reader};

/// Takes PostgreSQL databases from one schema version to the next, and never leaves anyone guessing what happened.
#[derive(Parser, Debug)]
#[command(name = "belay", version, after_help = exit::HELP, max_term_width = 100)]
struct Cli {
    /// Say more of what is done; twice: still more
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Plan(plan::Plan),
    Apply(apply::Apply),
    Status(status::Status),
    History(history::History),
    New(new::New),
    Digest(digest::Digest),
    Repair(repair::Repair),
    Backup(backup::BackupArgs),
    DeleteBackup(backup::DeleteBackupArgs),
    Credentials(backup::CredentialsArgs),
    /// Print the CustomResourceDefinitions, for `kubectl apply -f -`
    Crds,
    Controller(controller::Controller),
}

/// The arguments, for the reference in docs/.
pub fn arguments() -> clap::Command {
    Cli::command()
}

/// The whole program: arguments → one command → an exit code.
pub fn main() -> ExitCode {
    // Libraries that speak TLS must not choose a provider by themselves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    if cli.command.connects_by_secret()
        && let Err(error) = environment::without_libpq_variables()
    {
        return failed(Format::Table, &CliError::Start(error)).into();
    }
    telemetry::init(reader(&cli));
    let format = cli.command.format();
    run(cli.command).unwrap_or_else(|error| failed(format, &error)).into()
}

fn run(command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Plan(plan) => wait(plan.run()),
        Command::Apply(apply) => wait(apply.run()),
        Command::Status(status) => wait(status.run()),
        Command::History(history) => wait(history.run()),
        Command::Backup(backup) => Ok(backup.run()),
        Command::DeleteBackup(delete) => Ok(delete.run()),
        Command::Credentials(credentials) => Ok(credentials.run()),
        Command::New(new) => new.run(),
        Command::Digest(digest) => digest.run(),
        Command::Repair(repair) => wait(repair.run()),
        Command::Controller(controller) => controller.run(),
        Command::Crds => {
            output::print(&crds::render().map_err(CliError::Crds)?)?;
            Ok(Exit::Done)
        }
    }
}

/// In a Job's Pod nobody watches, and what was done has to be found later.
fn reader(cli: &Cli) -> Reader {
    let in_a_pod = match &cli.command {
        Command::Backup(backup) => backup.is_in_a_job(),
        Command::DeleteBackup(delete) => delete.is_in_a_job(),
        Command::Credentials(credentials) => credentials.is_in_a_job(),
        Command::Controller(_) => true,
        _ => false,
    };
    if in_a_pod { Reader::Collector } else { Reader::Person { verbose: cli.verbose } }
}

/// One connection needs one thread.
fn wait(command: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Start)?;
    runtime.block_on(command)
}

impl Command {
    /// Whether Secrets alone say how to connect.
    fn connects_by_secret(&self) -> bool {
        match self {
            Self::Backup(backup) => backup.connects_by_secret(),
            Self::Credentials(credentials) => credentials.connects_by_secret(),
            Self::Controller(_) => true,
            _ => false,
        }
    }

    /// How a failure is printed.
    fn format(&self) -> Format {
        match self {
            Self::Plan(plan) => plan.output,
            Self::Apply(apply) => apply.output,
            Self::Status(status) => status.output,
            Self::History(history) => history.format(),
            Self::Repair(repair) => repair.output,
            _ => Format::Table,
        }
    }
}

fn failed(format: Format, error: &CliError) -> Exit {
    output::tell(&format!("belay: {}", output::printable(&error.to_string())));
    if let Some(excerpt) = error.excerpt() {
        output::tell(excerpt);
    }
    if format != Format::Table {
        let document = FailureDocument { failure: error.failure() };
        let _ = output::print(&output::document(format, &document));
    }
    error.exit()
}

/// Help, the version, or what is wrong with the arguments; without those among them that may hold passwords.
fn usage(error: &clap::Error) -> Exit {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let secrets: Vec<String> = arguments.filter(|argument| source::connects(argument)).collect();
    if secrets.is_empty() || !error.use_stderr() {
        let _ = error.print();
    } else {
        output::tell(redact(&error.to_string(), &secrets).trim_end());
    }
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

/// The text without these arguments, whole or behind the `=` of an option.
fn redact(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| {
        match secret.split_once('=').filter(|_| secret.starts_with("--")) {
            Some((option, value)) => {
                let text = text.replace(secret, &format!("{option}=<URL>"));
                // It may be told without its option; a few letters would be found everywhere.
                if source::connects(value) { text.replace(value, "<URL>") } else { text }
            }
            None => text.replace(secret, "<URL>"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        arguments().debug_assert();
    }

    #[test]
    fn no_url_is_repeated_to_a_terminal() {
        let secrets = ["--databse-url=postgres://u:hunter2@h/d", "postgres://u:hunter2@h", "host=h password=hunter2"];
        let text = format!("unexpected '{}' and '{}' and '{}'", secrets[0], secrets[1], secrets[2]);
        let text = redact(&text, &secrets.map(str::to_owned));
        assert_eq!(text, "unexpected '--databse-url=<URL>' and '<URL>' and '<URL>'");
        for secret in ["--password=", "--password=a"] {
            let text = redact(&format!("unexpected argument '{secret}' found"), &[secret.to_owned()]);
            assert_eq!(text, "unexpected argument '--password=<URL>' found");
        }
    }
}
